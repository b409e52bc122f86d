// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package page

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
)

// pageVector is a vector of a page.
type pageVector struct {
	KeyType      keyring.KeyType      `json:"key_type"`
	Key          keyringtest.HexBytes `json:"key"`
	PlacementKey keyringtest.HexBytes `json:"placement_key"`
	Tenant       string               `json:"tenant_id"`
	Incarnation  string               `json:"incarnation"`
	Place        Prefix               `json:"place"`
	Version      int                  `json:"version"`
	Counts       item.Counts          `json:"counts"`
	Items        []itemVector         `json:"items"`
	Slots        keyringtest.HexBytes `json:"slots"`
	Page         keyringtest.HexBytes `json:"page"`
}

type itemVector struct {
	Kind      string            `json:"kind"`
	Name      string            `json:"name"`
	Data      json.RawMessage   `json:"data"`
	Metadata  map[string]string `json:"metadata"`
	Revision  uint64            `json:"revision"`
	CreatedAt int64             `json:"created_at"` // nanoseconds since 1970
	UpdatedAt int64             `json:"updated_at"`
	RequestID string            `json:"request_id"`
	Hash      string            `json:"hash"` // hex
}

// Page opens a page without the engine.
func (v *pageVector) opened(t *testing.T, page []byte) []byte {
	t.Helper()
	const headerBytes = 17
	require.Equal(t, []byte(v.Page[:headerBytes]), page[:headerBytes])
	slots, err := keyringtest.Open(string(v.KeyType), v.Key, page[headerBytes:], keyringtest.AssociatedData(
		"vault-plugin-dek/page/v1", v.Tenant, v.Incarnation, string(v.Place), string(page[:headerBytes])))
	require.NoError(t, err)
	return slots
}

func TestPageVectors(t *testing.T) {
	var vectors []pageVector
	keyringtest.FromFile(t, "pages.json", &vectors)
	require.Len(t, vectors, 8)
	for _, v := range vectors {
		require.Equal(t, []byte(v.Slots), v.opened(t, v.Page))

		owner := keyring.Owner{Tenant: v.Tenant, Incarnation: v.Incarnation}
		a, err := keyring.NewAEAD(v.KeyType, v.Key)
		require.NoError(t, err)
		slots, err := Open(owner, v.Place, a, v.Page)
		require.NoError(t, err)
		require.Equal(t, []byte(v.Slots), slots)
		h, _, err := ParseHeader(v.Page)
		require.NoError(t, err)
		require.Equal(t, Header{Version: v.Version, Counts: v.Counts}, h)
		v.checkItems(t, slots)

		page, err := Seal(owner, v.Place, h, a, slots)
		require.NoError(t, err)
		require.Equal(t, []byte(v.Slots), v.opened(t, page))
	}
}

// deltaVector is a vector of a page with its delta.
type deltaVector struct {
	Page   pageVector           `json:"page"`
	Counts item.Counts          `json:"counts"`
	Slots  keyringtest.HexBytes `json:"slots"` // the delta's
	Items  []itemVector         `json:"items"` // the page's, with those of the delta
	Delta  keyringtest.HexBytes `json:"delta"`
}

// Page opens a delta without the engine.
func (v *deltaVector) opened(t *testing.T, delta []byte) []byte {
	t.Helper()
	const headerBytes = 17 + 16
	require.Equal(t, []byte(v.Delta[:headerBytes]), delta[:headerBytes])
	slots, err := keyringtest.Open(string(v.Page.KeyType), v.Page.Key, delta[headerBytes:], keyringtest.AssociatedData(
		"vault-plugin-dek/delta/v1", v.Page.Tenant, v.Page.Incarnation, string(v.Page.Place), string(delta[:headerBytes])))
	require.NoError(t, err)
	return slots
}

func TestDeltaVectors(t *testing.T) {
	var vectors []deltaVector
	keyringtest.FromFile(t, "deltas.json", &vectors)
	require.Len(t, vectors, 3)
	for _, v := range vectors {
		require.Equal(t, []byte(v.Slots), v.opened(t, v.Delta))
		p := v.Page
		ours, err := Belongs(v.Delta, p.Page)
		require.NoError(t, err)
		require.True(t, ours)

		owner := keyring.Owner{Tenant: p.Tenant, Incarnation: p.Incarnation}
		a, err := keyring.NewAEAD(p.KeyType, p.Key)
		require.NoError(t, err)
		o := Page{Header: Header{Version: p.Version, Counts: p.Counts}, BaseID: BaseIDOf(p.Page)}
		o.Slots, err = DecodeSlots(p.Slots)
		require.NoError(t, err)
		require.NoError(t, o.AddDelta(owner, p.Place, a, v.Delta))
		require.Equal(t, Header{Version: p.Version, Counts: v.Counts}, o.Header)
		with := p
		with.Counts, with.Items = v.Counts, v.Items
		with.checkItems(t, o.Slots.Encode())

		delta, err := SealDelta(owner, p.Place, o.Header, o.BaseID, a, o.Changed)
		require.NoError(t, err)
		require.Equal(t, []byte(v.Slots), v.opened(t, delta))
	}
}

// checkItems decodes the items of a page, and encodes them again.
func (v *pageVector) checkItems(t *testing.T, encoded []byte) {
	t.Helper()
	decoded, err := DecodeSlots(encoded)
	require.NoError(t, err)
	require.Len(t, decoded, len(v.Items))
	require.Equal(t, v.Counts, decoded.Counts())
	for i, want := range v.Items {
		it, err := item.DecodeItem(decoded[i].Item)
		require.NoError(t, err)
		require.JSONEq(t, string(want.Data), string(it.Data))
		require.Equal(t, item.Item{
			Name: want.Name, Data: it.Data, Metadata: want.Metadata, Revision: want.Revision, RequestID: want.RequestID,
			CreatedAt: time.Unix(0, want.CreatedAt).UTC(), UpdatedAt: time.Unix(0, want.UpdatedAt).UTC(),
		}, *it)
		kind, known := item.ParseKind(want.Kind)
		require.True(t, known)
		hash := HashOf(v.PlacementKey, kind, want.Name)
		require.Equal(t, want.Hash, fmt.Sprintf("%016x", uint64(hash)))
		require.Equal(t, Slot{Hash: hash, Kind: kind, Item: decoded[i].Item}, decoded[i])
		require.True(t, hash >= v.Place.First() && hash <= v.Place.Last())
		again, err := it.Encode()
		require.NoError(t, err)
		require.Equal(t, decoded[i].Item, again)
	}
	require.Equal(t, encoded, decoded.Encode())
}
