// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// keyEntry is a vector of a wrapped key.
type keyEntry struct {
	KEKID       string               `json:"kek_id"`
	KEK         keyringtest.HexBytes `json:"kek"`
	Tenant      string               `json:"tenant_id"`
	Incarnation string               `json:"incarnation"`
	KeyID       string               `json:"key_id"`
	KeyType     keyring.KeyType      `json:"key_type"`
	Purpose     keyring.Purpose      `json:"purpose"`
	Key         keyringtest.HexBytes `json:"key"`
	Entry       keyringtest.HexBytes `json:"entry"`
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

// Page opens an entry without the engine.
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
	keyringtest.FromFile(t, "key_entries.json", &vectors)
	require.Len(t, vectors, 5)
	for _, v := range vectors {
		entries := &logical.InmemStorage{}
		put := func(key string, value []byte) {
			require.NoError(t, entries.Put(ctx, &logical.StorageEntry{Key: key, Value: value}))
		}
		put("kek/keys/"+v.KEKID, v.KEK)
		put("kek/current", []byte(`{"kek_id":"`+v.KEKID+`"}`))
		put("keys/"+v.Incarnation+"/"+v.KeyID, v.Entry)
		require.Equal(t, []byte(v.Key), v.opened(t, v.Entry))

		s := NewStore(storage.NewMount(entries), time.Now, nil)
		key, err := s.OpenKey(ctx, v.binding())
		require.NoError(t, err)
		require.Equal(t, []byte(v.Key), key)

		require.NoError(t, s.CreateKey(ctx, "", v.binding()))
		written, err := entries.Get(ctx, "keys/"+v.Incarnation+"/"+v.KeyID)
		require.NoError(t, err)
		wantFrame, _, wantRest := v.parts(t, v.Entry)
		frame, _, rest := v.parts(t, written.Value)
		require.Equal(t, [][]byte{wantFrame, wantRest}, [][]byte{frame, rest}, "all but the sealed key")
		key, err = s.OpenKey(ctx, v.binding())
		require.NoError(t, err)
		require.Equal(t, key, v.opened(t, written.Value))
	}
}
