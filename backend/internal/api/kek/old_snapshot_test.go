// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kek_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Storage goes back to before a tenant was shredded, whose owner has destroyed the outer key
// since. The tenant's record is back, and nothing of it opens; the others have what they had.
func TestOldSnapshotWithoutTheOuterKey(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		w.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": 0})
		enginetest.Advance(25 * time.Hour)
		w.MoveUnderOwnKEK()
		ciphertext := w.Must(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "eA=="})["ciphertext"]
		snapshot := w.Disk.Clone()
		w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "0"})
		require.Empty(t, w.Disk.Keys("tenantkeks/"))

		// In the snapshot the tenant's KEK is wrapped, and every key of the tenant is beneath it.
		own := snapshot.Keys("tenantkeks/")
		require.Len(t, own, 1)
		_, name, _ := strings.Cut(strings.TrimPrefix(own[0], "tenantkeks/"), "/")
		incarnation, kekID, _ := strings.Cut(name, ".")
		require.NotEqual(t, 32, len(snapshot.Value(own[0])), "a bare key")
		keys := snapshot.Keys("keys/" + incarnation + "/")
		require.NotEmpty(t, keys)
		for _, key := range keys {
			require.Contains(t, string(snapshot.Value(key)), kekID, key)
		}

		restored := w.On(enginetest.OpenMount(w.T, snapshot, 0, storagetest.None))
		defer restored.Close()
		restored.Transit.Set(providertest.Gone)
		require.Equal(t, "active", restored.Must(enginetest.Read, enginetest.TenantPath(""), nil)["state"])
		for _, c := range []struct {
			op   logical.Operation
			path string
			data map[string]any
		}{
			{enginetest.Read, enginetest.ItemPath("a"), nil},
			{enginetest.List, enginetest.TenantPath("/secrets/"), nil},
			{enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("2")},
			{enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "a"}}}},
			{enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": ciphertext}},
			{enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": ciphertext}},
			{enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "eA=="}},
			{enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), nil},
			{enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil},
			{enginetest.Update, enginetest.TenantPath("/kek/rotate"), map[string]any{"provider": ""}},
		} {
			denied(restored, c.op, c.path, c.data)
		}
		restored.Must(enginetest.Read, other+"/secrets/a", nil)
		restored.Must(enginetest.Update, other+"/encrypt", map[string]any{"plaintext": "eA=="})
	})
}
