// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A change that is refused since an item beside it, of the same hash, is malformed
// takes nothing from the delta: the next change puts it with all that it held.
func TestRefusedChangeLeavesTheDelta(t *testing.T) {
	encoded, err := (&Item{Name: "before", Data: []byte(`{}`), Revision: 1}).encode()
	require.NoError(t, err)
	held := slots{{Hash: 1, Kind: Secrets, Item: encoded}, {Hash: 2, Kind: APIKeys, Item: []byte{0xff}}}
	write := func(name string, h Hash) *Op {
		return &Op{Kind: Secrets, Name: name, hash: h, Change: func(*Item) (*Item, error) {
			return &Item{Name: name, Data: []byte(`{}`), Revision: 1}, nil
		}}
	}
	refused, done := write("refused", 2), write("done", 3)
	e := newEdit(writable{opened: opened{slots: held, changed: held}}, maxPageBytes, []*Op{refused, done})
	require.ErrorIs(t, refused.Err, ErrPageDamaged)
	require.Equal(t, []*Op{done}, e.done)
	require.Len(t, e.sincePut, 3)
	require.Equal(t, e.slots, e.sincePut)
}
