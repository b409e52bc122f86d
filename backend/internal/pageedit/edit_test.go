// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pageedit

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// A change that is refused since an item beside it, of the same hash, is malformed
// takes nothing from the delta: the next change puts it with all that it held.
func TestRefusedChangeLeavesTheDelta(t *testing.T) {
	encoded, err := (&item.Item{Name: "before", Data: []byte(`{}`), Revision: 1}).Encode()
	require.NoError(t, err)
	held := page.Slots{{Hash: 1, Kind: item.Secrets, Item: encoded}, {Hash: 2, Kind: item.APIKeys, Item: []byte{0xff}}}
	write := func(name string, h page.Hash) *Op {
		return &Op{Kind: item.Secrets, Name: name, Hash: h, Change: func(*item.Item) (*item.Item, error) {
			return &item.Item{Name: name, Data: []byte(`{}`), Revision: 1}, nil
		}}
	}
	refused, done := write("refused", 2), write("done", 3)
	e := New(Current{Page: page.Page{Slots: held, Changed: held}}, page.MaxBytes, []*Op{refused, done})
	require.ErrorIs(t, refused.Err, page.ErrDamaged)
	require.Equal(t, []*Op{done}, e.done)
	require.Len(t, e.SincePut, 3)
	require.Equal(t, e.Slots, e.SincePut)
}
