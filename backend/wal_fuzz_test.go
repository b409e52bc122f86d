// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/creation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
)

// loggedEntries are entries as they are put, of each kind.
func loggedEntries(f *testing.F) (entries [][]byte) {
	f.Helper()
	ctx, storage := context.Background(), &logical.InmemStorage{}
	r := rotation.Intent{TenantID: testTenant, Incarnation: "i", RotationID: "rot-1", KeyID: "dek-1"}
	_, err := rotationLog(storage).Put(ctx, r)
	require.NoError(f, err)
	c := creation.Intent{TenantID: testTenant, Incarnation: "i"}
	_, err = creationLog(storage).Put(ctx, c)
	require.NoError(f, err)
	ids, err := framework.ListWAL(ctx, storage)
	require.NoError(f, err)
	for _, id := range ids {
		e, err := storage.Get(ctx, framework.WALPrefix+id)
		require.NoError(f, err)
		var all unfinishedWork
		require.NoError(f, all.add(id, e), "what is put can be read")
		entries = append(entries, e.Value)
	}
	return entries
}

// What is read of the log is whole: whoever acts on it deletes keys by what it names.
func FuzzLogEntry(f *testing.F) {
	for _, e := range loggedEntries(f) {
		f.Add(e)
	}
	for _, e := range []string{``, `null`, `{}`, `{"kind":"rotation"}`, `{"kind":"rotation","data":{"tenant_id":1}}`, `{"kind":"creation","data":[]}`, "\x01\x00"} {
		f.Add([]byte(e))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var all unfinishedWork
		err := all.add("id", &logical.StorageEntry{Key: "wal/id", Value: value})
		if err != nil {
			require.Empty(t, all.rotations)
			require.Empty(t, all.creations)
			return
		}
		require.Equal(t, 1, len(all.rotations)+len(all.creations))
		for _, i := range all.rotations {
			require.Equal(t, "id", i.ID)
			for _, s := range []string{i.TenantID, i.Incarnation, i.RotationID, i.KeyID} {
				require.NotEmpty(t, s)
			}
		}
		for _, i := range all.creations {
			require.Equal(t, "id", i.ID)
			for _, s := range []string{i.TenantID, i.Incarnation} {
				require.NotEmpty(t, s)
			}
		}
	})
}
