// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// TestNewerFormatIsRefused opens storage that a later version has written: every request
// is refused, and nothing is done in the background, not even what is under way.
func TestNewerFormatIsRefused(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, _ string) {
		w.Crash()
		disk := w.Disk
		disk.RestartVault()
		config := disk.Value("config")
		disk.Set("config", []byte(`{"format":2}`))
		before := everyEntry(disk)

		m := enginetest.OpenMount(t, disk, 0, storagetest.None)
		for path, ops := range map[string][]logical.Operation{
			enginetest.ItemPath("item-0"):        {enginetest.Read, enginetest.Update, logical.PatchOperation, enginetest.Delete},
			enginetest.TenantPath(""):            {enginetest.Read, enginetest.Update, enginetest.Delete},
			enginetest.TenantPath("/dek/rotate"): {enginetest.Update},
			"config":                             {enginetest.Read, enginetest.Update},
			"status":                             {enginetest.Read},
			"tenants":                            {enginetest.List},
			"data/" + enginetest.TenantID + "/secrets/item-0":             {enginetest.Read, enginetest.Update},
			"tenants/00000000-0000-4000-8000-000000000000":                {enginetest.Update},
			"tenants/00000000-0000-4000-8000-000000000000/secrets/item-0": {enginetest.Read},
		} {
			for _, op := range ops {
				resp, err := m.Call(op, path, enginetest.Secret("v"))
				require.Equal(t, 503, enginetest.Code(resp, err), "%s %s: %v", op, path, err)
				require.ErrorContains(t, err, "newer version of the plugin")
			}
		}
		m.Tick()
		m.Close()
		require.Equal(t, before, everyEntry(disk))

		disk.Set("config", config)
		m = enginetest.OpenMount(t, disk, 0, storagetest.None)
		m.Tick()
		require.Equal(t, "completed", m.RotationsOf(enginetest.TenantID)[0]["status"])
		m.Close()
	})
}

func everyEntry(disk *storagetest.Disk) map[string]string {
	entries := map[string]string{}
	for _, key := range disk.Keys("") {
		entries[key] = string(disk.Value(key))
	}
	return entries
}
