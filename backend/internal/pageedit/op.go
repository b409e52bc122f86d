// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pageedit

import (
	"cmp"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// Op is one change of one item.
type Op struct {
	Kind item.Kind
	Name string
	// Change is given the item as it is, or nil, and returns what it is to be,
	// or nil to delete it. To change nothing it returns what it was given. It
	// may be called more than once; an error refuses this change alone.
	Change func(*item.Item) (*item.Item, error)
	// IsPatch says that the change is of part of the item. An item that is larger than the
	// present limit may then stay as large as it was.
	IsPatch bool
	// Removes says that Change deletes the item. The change then succeeds even if the item
	// was lost with its page.
	Removes bool

	// Item is the item after the change, Err why it failed. After an error of storage the
	// change may have taken effect all the same. A request that is sent again, under the same
	// ID, is recognized ([item.Request.Wrote]), and what it finds done is put once more if it
	// might not be in storage.
	Item *item.Item
	Err  error

	Hash page.Hash // where the item is, once the store has set it

	settled bool
}

// Settle gives the change its outcome.
func (op *Op) Settle(err error) {
	op.Err, op.settled = err, true
	if err != nil {
		op.Item = nil
	}
}

// Settled reports whether the change has its outcome.
func (op *Op) Settled() bool { return op.settled }

// ByHash returns changes in the order of their hashes.
func ByHash(ops []*Op) []*Op {
	ordered := slices.Clone(ops)
	slices.SortStableFunc(ordered, func(a, b *Op) int { return cmp.Compare(a.Hash, b.Hash) })
	return ordered
}

// SettleAll gives each change that has no outcome yet this one.
func SettleAll(ops []*Op, err error) {
	for _, op := range ops {
		if !op.settled {
			op.Settle(err)
		}
	}
}
