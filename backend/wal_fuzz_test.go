// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
)

const fuzzedTenant = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

// loggedEntries are entries as they are put, of each kind.
func loggedEntries(f *testing.F) (entries [][]byte) {
	f.Helper()
	ctx, storage := context.Background(), &logical.InmemStorage{}
	r := intents.Intent{TenantID: fuzzedTenant, Incarnation: "i", RotationID: "rot-1", KeyID: "dek-1"}
	c := intents.Intent{TenantID: fuzzedTenant, Incarnation: "i"}
	for _, some := range [][]intents.Intent{{r}, {c}, {r, c}} {
		_, err := walEntries{storage}.Put(ctx, some)
		require.NoError(f, err)
	}
	ids, err := framework.ListWAL(ctx, storage)
	require.NoError(f, err)
	for _, id := range ids {
		e, err := storage.Get(ctx, framework.WALPrefix+id)
		require.NoError(f, err)
		got, err := decodeIntents(e)
		require.NoError(f, err, "what is put can be read")
		require.NotEmpty(f, got)
		entries = append(entries, e.Value)
	}
	return entries
}

// What is read of the log is whole: whoever acts on it deletes keys by what it names.
func FuzzLogEntry(f *testing.F) {
	for _, e := range loggedEntries(f) {
		f.Add(e)
	}
	for _, e := range []string{``, `null`, `{}`, `{"kind":"rotation"}`, `{"kind":"rotation","data":{"tenant_id":1}}`, `{"kind":"creation","data":[]}`, `{"kind":"shared","data":{"intents":[]}}`, `{"kind":"shared","data":{"intents":[{}]}}`, "\x01\x00"} {
		f.Add([]byte(e))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		all, err := decodeIntents(&logical.StorageEntry{Key: "wal/id", Value: value})
		if err != nil {
			return
		}
		require.NotEmpty(t, all)
		for _, i := range all {
			require.NotEmpty(t, i.TenantID)
			require.NotEmpty(t, i.Incarnation)
			require.Equal(t, i.IsCreation(), i.KeyID == "")
		}
	})
}
