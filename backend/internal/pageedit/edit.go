// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pageedit

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// Current is a page as a writer finds it under the page's lock.
type Current struct {
	page.Page
	IsNew bool  // there is no such page yet: it is a tenant's first
	Lost  error // the page was given up, and is replaced by what is left of it
}

// Edit is the content of a page while changes are made to it in memory.
type Edit struct {
	Slots page.Slots
	Bytes int // what the slots take, encoded

	Changed bool // the slots are not what the page has
	Removed bool // one of the changes has removed an item
	Full    bool // a change did not fit: the page must split first
	// SincePut has the items that have changed since the page was put, and exist.
	SincePut page.Slots

	room    int // bytes that the slots may take together
	maxItem int // bytes that what callers give of an item may have, encoded

	done []*Op // changes made to the slots: the write decides their outcome
	// refused are changes that were refused because of an earlier one in the same write. The
	// refusal holds only if that one is stored.
	refused []*Op
	lost    error // the page was given up: an item that is not found may have been on it
}

// New makes changes to what is in a page, as many as fit. A tenant's first page
// has room for all, since it is stored as many.
func New(cur Current, maxItem int, ops []*Op) *Edit {
	e := &Edit{
		Slots: slices.Clone(cur.Slots), Bytes: cur.Slots.Size(), room: page.MaxBytes, maxItem: maxItem,
		SincePut: slices.Clone(cur.Changed), lost: cur.Lost,
	}
	if cur.IsNew {
		e.room = math.MaxInt
		// In their order each goes to the end, however many requests wait together.
		ops = ByHash(ops)
	}
	for _, op := range ops {
		if !e.apply(op) {
			break // it, and those after it, wait until the page has split
		}
	}
	return e
}

// apply makes one change. It returns false if the change has to wait until the
// page has split, because the page would pass what an entry may hold.
func (e *Edit) apply(op *Op) bool {
	if op.settled {
		return true
	}
	i, cur, err := e.Slots.Find(op.Hash, op.Kind, op.Name)
	if err != nil {
		op.Settle(err)
		return true
	}
	next, err := op.Change(cur)
	if e.lost != nil && errors.Is(err, item.ErrNotFound) {
		return e.applyLost(op)
	}
	switch {
	case err != nil && e.hasChanged(op):
		// Whether the refusal holds depends on whether that state is stored.
		op.Err = err
		e.refused = append(e.refused, op)
		return true
	case err != nil:
		op.Settle(err)
		return true
	case next == cur: // nothing to change
		op.Item = cur
		e.done = append(e.done, op)
		return true
	case next == nil:
		e.remove(i)
		op.Item = nil
	default:
		if fits, err := e.put(i, cur, op, next); err != nil {
			op.Settle(err)
			return true
		} else if !fits {
			e.Full = true
			return false
		}
		op.Item = next
	}
	e.done = append(e.done, op)
	e.Changed = true
	return true
}

// hasChanged reports whether a change of the same item was made before.
func (e *Edit) hasChanged(op *Op) bool {
	return e.Changed && slices.ContainsFunc(e.done, func(other *Op) bool {
		return other.Hash == op.Hash && other.Kind == op.Kind && other.Name == op.Name
	})
}

// Settle tells each change that was made its outcome, which is that of the write. A
// refusal holds if the write succeeded.
func (e *Edit) Settle(err error) {
	SettleAll(e.done, err)
	for _, op := range e.refused {
		if err != nil {
			op.Err = err
		}
		op.Settle(op.Err)
	}
}

// applyLost settles a change of an item that may have been lost with its page. To remove
// it is to replace the page.
func (e *Edit) applyLost(op *Op) bool {
	if !op.Removes {
		op.Settle(e.lost)
		return true
	}
	op.Item = nil
	e.done = append(e.done, op)
	e.Changed = true
	return true
}

func (e *Edit) remove(i int) {
	e.Removed = true
	e.Bytes -= e.Slots[i].Size()
	e.Slots = slices.Delete(e.Slots, i, i+1)
}

// put sets an item at index i: in place of cur, or as a new one if cur is nil.
func (e *Edit) put(i int, cur *item.Item, op *Op, it *item.Item) (fits bool, err error) {
	replace := cur != nil
	encoded, err := it.Encode()
	if err != nil {
		return false, fmt.Errorf("encoding an item: %w", err)
	}
	if len(encoded) > e.maxItem {
		if err := e.mustFit(cur, op, it); err != nil {
			return false, err
		}
	}
	sl := page.Slot{Hash: op.Hash, Kind: op.Kind, Item: encoded}
	bytes := e.Bytes + sl.Size()
	if replace {
		bytes -= e.Slots[i].Size()
	}
	// Alone an item always fits: the configuration's bound on an item is far
	// enough below that of a page.
	if bytes > e.room && len(e.Slots) > 0 && (!replace || len(e.Slots) > 1) {
		return false, nil
	}
	sincePut, err := e.SincePut.Set(sl)
	if err != nil {
		return false, err // SincePut keeps the changes made so far
	}
	e.SincePut = sincePut
	if replace {
		e.Slots[i] = sl
	} else {
		e.Slots = slices.Insert(e.Slots, i, sl)
	}
	e.Bytes = bytes
	return true, nil
}

// mustFit bounds an item. A patch of one that is larger than may be written now, since
// the bound was lowered, may leave it as large as it is.
func (e *Edit) mustFit(cur *item.Item, op *Op, it *item.Item) error {
	err := it.MustBeWithin(e.maxItem)
	if err == nil || cur == nil || !op.IsPatch {
		return err
	}
	was, sizeErr := cur.GivenBytes()
	if sizeErr != nil {
		return sizeErr
	}
	if it.MustBeWithin(was) == nil {
		return nil
	}
	return err
}

// HasOutcomes reports whether a change of those made waits for the outcome of a write.
func (e *Edit) HasOutcomes() bool { return len(e.done) > 0 }

// minDeltaPage is the size of a page, with the changes, from which on it is given
// deltas: a smaller one is put about as fast.
const minDeltaPage = 8 << 10

// FitsDelta reports whether what has changed is small enough to be put as the page's delta.
//
// Each Put of a delta writes all of it again. So by the time that a delta has n items and d
// bytes, its Puts have written about n*d/2 bytes. The page is put instead once that would
// exceed half of the page: as long as n*d is at most the page's size, a delta is cheaper.
func (e *Edit) FitsDelta() bool {
	puts := max(2, len(e.SincePut))
	return !e.Removed && e.Bytes >= minDeltaPage && puts*e.SincePut.Size() <= e.Bytes
}

// IsHuge reports whether the page is twice as large as one may be before it splits: several
// changes have made it so, or a large item.
func (e *Edit) IsHuge() bool { return e.Bytes > 2*page.SplitBytes }

// StaysBesideLarge reports whether small items have changed on a page that a large one has
// filled beyond its size, and all of them together would not make a page split. If it were
// split, the large item would be written again at each level until the two part.
func (e *Edit) StaysBesideLarge() bool {
	if !e.Changed || e.Full || !e.IsHuge() {
		return false
	}
	largest := 0
	for _, sl := range e.Slots {
		largest = max(largest, sl.Size())
	}
	return e.Bytes-largest <= page.SplitBytes
}
