// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package page

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// FuzzOpenPage takes pages as storage may hold them: whole, damaged, or made up.
// Only what was sealed opens.
func FuzzOpenPage(f *testing.F) {
	a, err := keyring.NewAEAD(keyring.XAES256GCM, bytes.Repeat([]byte{1}, keyring.KeySize))
	require.NoError(f, err)
	owner := keyring.Owner{Tenant: "t", Incarnation: "i"}
	whole, err := Seal(owner, "01", Header{Version: 3, Counts: item.Counts{1, 2, 3}}, a, []byte{0x80})
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:headerSize])
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Add([]byte{pageFormat})
	f.Add(append([]byte{2}, whole[1:]...))
	f.Fuzz(func(tt *testing.T, page []byte) {
		h, _, err := ParseHeader(page)
		opened, openErr := Open(owner, "01", a, page)
		if err != nil {
			require.ErrorIs(tt, openErr, ErrDamaged)
			return
		}
		require.Equal(tt, page[:headerSize], h.encode(), "a header has one form")
		if openErr == nil {
			require.Equal(tt, whole[:headerSize], page[:headerSize])
			require.Equal(tt, []byte{0x80}, opened)
		}
	})
}

// FuzzOpenDelta takes deltas as storage may hold them beside a page. Only what was
// sealed for this page opens.
func FuzzOpenDelta(f *testing.F) {
	a, err := keyring.NewAEAD(keyring.XAES256GCM, bytes.Repeat([]byte{1}, keyring.KeySize))
	require.NoError(f, err)
	owner := keyring.Owner{Tenant: "t", Incarnation: "i"}
	encoded, err := (&item.Item{Name: "n", Data: []byte(`{"a":1}`), Revision: 1}).Encode()
	require.NoError(f, err)
	of := Header{Version: 3}
	page, err := Seal(owner, "01", of, a, Slots(nil).Encode())
	require.NoError(f, err)
	changed := Slots{{Hash: 1, Kind: item.Secrets, Item: encoded}}
	with := Header{Version: 3, Counts: changed.Counts()}
	whole, err := SealDelta(owner, "01", with, BaseIDOf(page), a, changed)
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:deltaHeaderSize])
	f.Add(whole[:headerSize])
	f.Add([]byte{})
	f.Add(append([]byte{2}, whole[1:]...))
	f.Fuzz(func(tt *testing.T, delta []byte) {
		ours, err := Belongs(delta, page)
		if err != nil || !ours {
			require.False(tt, bytes.Equal(whole, delta))
			return
		}
		o := Page{Header: of, BaseID: BaseIDOf(page)}
		if err := o.AddDelta(owner, "01", a, delta); err != nil {
			require.ErrorIs(tt, err, ErrDamaged)
			return
		}
		require.Equal(tt, Page{with, changed, BaseIDOf(page), changed}, o)
		require.Equal(tt, whole[:deltaHeaderSize], delta[:deltaHeaderSize])
	})
}

// FuzzDecodeSlots takes what a page may hold once it is opened: what decodes is
// found, counted, split and encoded, or refused, without a panic.
func FuzzDecodeSlots(f *testing.F) {
	encoded, err := (&item.Item{
		Name: "n", Data: []byte(`{"a":1}`), Revision: 1, RequestID: "0f8fad5b-d9cb-469f-a165-70867728950e#1",
	}).Encode()
	require.NoError(f, err)
	for _, s := range []Slots{nil, {{Hash: 1, Kind: item.Secrets, Item: encoded}}, {{Hash: 1, Item: encoded}, {Hash: 1 << 63, Kind: item.APIKeys, Item: encoded}}} {
		f.Add(s.Encode())
	}
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		s, err := DecodeSlots(encoded)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		require.Equal(t, encoded, s.Encode(), "slots have one form")
		children := s.Split("")
		require.Len(t, s, len(children[0])+len(children[1]))
		require.Equal(t, len(s), s.Counts().Total())
		for _, sl := range s {
			_, _, _ = s.Find(sl.Hash, sl.Kind, "n") // a damaged item is an error
		}
	})
}

// FuzzParsePlace takes names of entries below a tenant's pages.
func FuzzParsePlace(f *testing.F) {
	for _, name := range []string{"d", "d01", "d2", "p", "p0", "p01", "", "q", "p2", "p0/", "p" + string(bytes.Repeat([]byte("1"), 64)), "p" + string(bytes.Repeat([]byte("1"), 65))} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, isDelta, err := ParseName(name)
		if err != nil {
			return
		}
		kind := "p"
		if isDelta {
			kind = "d"
		}
		require.Equal(t, name, kind+string(p))
		require.LessOrEqual(t, p.First(), p.Last())
		if len(p) < MaxDepth {
			require.Equal(t, p.First(), p.Child(0).First())
			require.Equal(t, p.Last(), p.Child(1).Last())
			require.Equal(t, p.Child(0).Last()+1, p.Child(1).First())
		}
	})
}
