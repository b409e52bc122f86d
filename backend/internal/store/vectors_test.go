// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
	mount "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// hexBytes are bytes that a file of vectors has in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// fromFile decodes testdata, which was made by another implementation, in
// another language.
func fromFile(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}

// keyEntry is a vector of a wrapped key.
type keyEntry struct {
	KEKID       string          `json:"kek_id"`
	KEK         hexBytes        `json:"kek"`
	Tenant      string          `json:"tenant_id"`
	Incarnation string          `json:"incarnation"`
	KeyID       string          `json:"key_id"`
	KeyType     keyring.KeyType `json:"key_type"`
	Purpose     keyring.Purpose `json:"purpose"`
	Key         hexBytes        `json:"key"`
	Entry       hexBytes        `json:"entry"`
}

func (v *keyEntry) binding() keyring.Binding {
	return keyring.Binding{Owner: keyring.Owner{Tenant: v.Tenant, Incarnation: v.Incarnation}, KeyID: v.KeyID, KeyType: v.KeyType, Purpose: v.Purpose}
}

// parts are what an entry has before the sealed key, the sealed key, and what
// follows it: the protobuf of an empty key_info.
func (v *keyEntry) parts(t *testing.T, entry []byte) (frame, sealed, rest []byte) {
	t.Helper()
	const sealedSize, restSize = 12 + 32 + 16, 2
	require.Len(t, entry, len(v.Entry))
	from, to := len(entry)-restSize-sealedSize, len(entry)-restSize
	return entry[:from], entry[from:to], entry[to:]
}

// opened opens an entry without the engine.
func (v *keyEntry) opened(t *testing.T, entry []byte) []byte {
	t.Helper()
	_, sealed, _ := v.parts(t, entry)
	key, err := keyringtest.Open("aes256-gcm", v.KEK, sealed, keyringtest.AssociatedData("vault-plugin-dek/wrapped-key/v1",
		v.Tenant, v.Incarnation, v.KeyID, string(v.KeyType), string(v.Purpose)))
	require.NoError(t, err)
	return key
}

func TestKeyEntryVectors(t *testing.T) {
	ctx := context.Background()
	var vectors []keyEntry
	fromFile(t, "key_entries.json", &vectors)
	require.Len(t, vectors, 5)
	for _, v := range vectors {
		storage := &logical.InmemStorage{}
		put := func(key string, value []byte) {
			require.NoError(t, storage.Put(ctx, &logical.StorageEntry{Key: key, Value: value}))
		}
		put("kek/keys/"+v.KEKID, v.KEK)
		put("kek/current", []byte(`{"kek_id":"`+v.KEKID+`"}`))
		put("keys/"+v.Incarnation+"/"+v.KeyID, v.Entry)
		require.Equal(t, []byte(v.Key), v.opened(t, v.Entry))

		s := New(mount.NewMount(storage), "")
		key, err := s.openKey(ctx, v.binding())
		require.NoError(t, err)
		require.Equal(t, []byte(v.Key), key)

		require.NoError(t, s.CreateKey(ctx, v.binding()))
		written, err := storage.Get(ctx, "keys/"+v.Incarnation+"/"+v.KeyID)
		require.NoError(t, err)
		wantFrame, _, wantRest := v.parts(t, v.Entry)
		frame, _, rest := v.parts(t, written.Value)
		require.Equal(t, [][]byte{wantFrame, wantRest}, [][]byte{frame, rest}, "all but the sealed key")
		key, err = s.openKey(ctx, v.binding())
		require.NoError(t, err)
		require.Equal(t, key, v.opened(t, written.Value))
	}
}

// pageVector is a vector of a page.
type pageVector struct {
	KeyType      keyring.KeyType `json:"key_type"`
	Key          hexBytes        `json:"key"`
	PlacementKey hexBytes        `json:"placement_key"`
	Tenant       string          `json:"tenant_id"`
	Incarnation  string          `json:"incarnation"`
	Place        Place           `json:"place"`
	Version      int             `json:"version"`
	Counts       Counts          `json:"counts"`
	Items        []itemVector    `json:"items"`
	Slots        hexBytes        `json:"slots"`
	Page         hexBytes        `json:"page"`
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

// opened opens a page without the engine.
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
	fromFile(t, "pages.json", &vectors)
	require.Len(t, vectors, 8)
	for _, v := range vectors {
		require.Equal(t, []byte(v.Slots), v.opened(t, v.Page))

		tenant := &Tenant{ID: v.Tenant, Incarnation: v.Incarnation}
		a, err := keyring.NewAEAD(v.KeyType, v.Key)
		require.NoError(t, err)
		slots, err := openPage(tenant.Owner(), v.Place, a, v.Page)
		require.NoError(t, err)
		require.Equal(t, []byte(v.Slots), slots)
		h, _, err := parseHeader(v.Page)
		require.NoError(t, err)
		require.Equal(t, Header{Version: v.Version, Counts: v.Counts}, h)
		v.checkItems(t, slots)

		page, err := sealPage(tenant.Owner(), v.Place, h, a, slots)
		require.NoError(t, err)
		require.Equal(t, []byte(v.Slots), v.opened(t, page))
	}
}

// deltaVector is a vector of a page with its delta.
type deltaVector struct {
	Page   pageVector   `json:"page"`
	Counts Counts       `json:"counts"`
	Slots  hexBytes     `json:"slots"` // the delta's
	Items  []itemVector `json:"items"` // the page's, with those of the delta
	Delta  hexBytes     `json:"delta"`
}

// opened opens a delta without the engine.
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
	fromFile(t, "deltas.json", &vectors)
	require.Len(t, vectors, 3)
	for _, v := range vectors {
		require.Equal(t, []byte(v.Slots), v.opened(t, v.Delta))
		p := v.Page
		ours, err := belongs(v.Delta, p.Page)
		require.NoError(t, err)
		require.True(t, ours)

		tenant := &Tenant{ID: p.Tenant, Incarnation: p.Incarnation}
		a, err := keyring.NewAEAD(p.KeyType, p.Key)
		require.NoError(t, err)
		o := opened{Header: Header{Version: p.Version, Counts: p.Counts}, mark: markOf(p.Page)}
		o.slots, err = decodeSlots(p.Slots)
		require.NoError(t, err)
		require.NoError(t, o.add(tenant.Owner(), p.Place, a, v.Delta))
		require.Equal(t, Header{Version: p.Version, Counts: v.Counts}, o.Header)
		with := p
		with.Counts, with.Items = v.Counts, v.Items
		with.checkItems(t, o.slots.encode())

		delta, err := sealDelta(tenant.Owner(), p.Place, o.Header, o.mark, a, o.changed)
		require.NoError(t, err)
		require.Equal(t, []byte(v.Slots), v.opened(t, delta))
	}
}

// checkItems decodes the items of a page, and encodes them again.
func (v *pageVector) checkItems(t *testing.T, encoded []byte) {
	t.Helper()
	decoded, err := decodeSlots(encoded)
	require.NoError(t, err)
	require.Len(t, decoded, len(v.Items))
	require.Equal(t, v.Counts, decoded.counts())
	for i, want := range v.Items {
		it, err := decodeItem(decoded[i].Item)
		require.NoError(t, err)
		require.JSONEq(t, string(want.Data), string(it.Data))
		require.Equal(t, Item{
			Name: want.Name, Data: it.Data, Metadata: want.Metadata, Revision: want.Revision, RequestID: want.RequestID,
			CreatedAt: time.Unix(0, want.CreatedAt).UTC(), UpdatedAt: time.Unix(0, want.UpdatedAt).UTC(),
		}, *it)
		kind, known := ParseKind(want.Kind)
		require.True(t, known)
		hash := hashOf(v.PlacementKey, kind, want.Name)
		require.Equal(t, want.Hash, fmt.Sprintf("%016x", uint64(hash)))
		require.Equal(t, slot{Hash: hash, Kind: kind, Item: decoded[i].Item}, decoded[i])
		require.True(t, hash >= v.Place.first() && hash <= v.Place.last())
		again, err := it.encode()
		require.NoError(t, err)
		require.Equal(t, decoded[i].Item, again)
	}
	require.Equal(t, encoded, decoded.encode())
}
