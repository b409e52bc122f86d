// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// edit is the content of a page while changes are made to it in memory.
type edit struct {
	slots   page.Slots
	bytes   int // what the slots take, encoded
	room    int // bytes that the slots may take together
	maxItem int // bytes that what callers give of an item may have, encoded

	done    []*Op // changes that the slots hold
	refused []*Op // changes that the state refuses which those before them make
	changed bool
	removed bool // one of them has removed an item
	// sincePut has the items that have changed since the page was put, and exist.
	sincePut page.Slots

	full bool  // a change did not fit: the page must split first
	lost error // the page was given up: items that are not there may have been
}

// newEdit makes changes to what is in a page, as many as fit. A tenant's first page
// has room for all, since it is stored as many.
func newEdit(cur writable, maxItem int, ops []*Op) *edit {
	e := &edit{
		slots: slices.Clone(cur.Slots), bytes: cur.Slots.Size(), room: page.MaxBytes, maxItem: maxItem,
		sincePut: slices.Clone(cur.Changed), lost: cur.lost,
	}
	if cur.isNew {
		e.room = math.MaxInt
		// In their order each goes to the end, however many requests wait together.
		ops = byHash(ops)
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
func (e *edit) apply(op *Op) bool {
	if op.settled {
		return true
	}
	i, cur, err := e.slots.Find(op.hash, op.Kind, op.Name)
	if err != nil {
		op.settle(err)
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
		op.settle(err)
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
			op.settle(err)
			return true
		} else if !fits {
			e.full = true
			return false
		}
		op.Item = next
	}
	e.done = append(e.done, op)
	e.changed = true
	return true
}

// hasChanged reports whether a change of the same item was made before.
func (e *edit) hasChanged(op *Op) bool {
	return e.changed && slices.ContainsFunc(e.done, func(other *Op) bool {
		return other.hash == op.hash && other.Kind == op.Kind && other.Name == op.Name
	})
}

// settle tells each change that was made its outcome, which is that of the write. A
// refusal holds if the write succeeded.
func (e *edit) settle(err error) {
	settleAll(e.done, err)
	for _, op := range e.refused {
		if err != nil {
			op.Err = err
		}
		op.settle(op.Err)
	}
}

// applyLost settles a change of an item that may have been lost with its page. To remove
// it is to replace the page.
func (e *edit) applyLost(op *Op) bool {
	if !op.Removes {
		op.settle(e.lost)
		return true
	}
	op.Item = nil
	e.done = append(e.done, op)
	e.changed = true
	return true
}

func (e *edit) remove(i int) {
	e.removed = true
	e.bytes -= e.slots[i].Size()
	e.slots = slices.Delete(e.slots, i, i+1)
}

// put places an item at index i, where cur is, if it is not nil.
func (e *edit) put(i int, cur *item.Item, op *Op, it *item.Item) (fits bool, err error) {
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
	sl := page.Slot{Hash: op.hash, Kind: op.Kind, Item: encoded}
	bytes := e.bytes + sl.Size()
	if replace {
		bytes -= e.slots[i].Size()
	}
	// Alone an item always fits: the configuration's bound on an item is far
	// enough below that of a page.
	if bytes > e.room && len(e.slots) > 0 && (!replace || len(e.slots) > 1) {
		return false, nil
	}
	sincePut, err := e.sincePut.Put(sl)
	if err != nil {
		return false, err // and what was changed before stays in the delta
	}
	e.sincePut = sincePut
	if replace {
		e.slots[i] = sl
	} else {
		e.slots = slices.Insert(e.slots, i, sl)
	}
	e.bytes = bytes
	return true, nil
}

// mustFit bounds an item. A patch of one that is larger than may be written now, since
// the bound was lowered, may leave it as large as it is.
func (e *edit) mustFit(cur *item.Item, op *Op, it *item.Item) error {
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
