// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"crypto/sha256"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/importstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestWrappingKey(t *testing.T) {
	m := enginetest.WithTenant(t)
	first := m.PublicKey()
	require.Equal(t, 4096, first.N.BitLen())
	require.Equal(t, first, m.PublicKey(), "the same from then on")
	re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer re.Close()
	require.Equal(t, first, re.PublicKey())
	require.Contains(t, importstore.SealWrapped(), "import/wrapping_key")
	require.Len(t, m.Disk.Keys("import/keys/"), 1)
}

// However many read it first at once: one key.
func TestWrappingKeyIsMadeOnce(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	before := enginetest.WrappingKeysMade.Load()
	var all sync.WaitGroup
	seen := make([]any, 16)
	for i := range seen {
		all.Go(func() {
			resp, err := m.Engine.HandleRequest(t.Context(), &logical.Request{Operation: enginetest.Read, Path: "wrapping_key", Storage: m.Storage})
			if err == nil {
				seen[i] = resp.Data["public_key"]
			}
		})
	}
	all.Wait()
	for i := range seen {
		require.NotNil(t, seen[i])
		require.Equal(t, seen[0], seen[i])
	}
	require.Equal(t, before+1, enginetest.WrappingKeysMade.Load())
}

// Whatever fails while it is made: a public key that was answered is the one that
// unwraps, then and later.
func TestWrappingKeyAtEveryFault(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.Gone} {
			synctest.Test(t, func(t *testing.T) {
				m := enginetest.OpenMount(t, storagetest.NewDisk(), 0, storagetest.None)
				m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
				synctest.Wait()
				m.Storage.FailNext(n, fault)
				_, err := m.Call(enginetest.Read, "wrapping_key", nil)
				require.Error(t, err, "%d %s", n, fault)
				m.Crash()
				m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
				public := m.PublicKey()
				m.Disk.RestartVault()
				require.Equal(t, public, m.PublicKey())
				m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), map[string]any{"ciphertext": enginetest.Wrapped(t, public, sha256.New(), enginetest.OwnersKey(1))})
				m.Close()
			})
		}
	}
}

func TestDamagedWrappingKeyIsAFault(t *testing.T) {
	m := enginetest.WithTenant(t)
	body := m.Imports(enginetest.OwnersKey(1))
	m.Disk.Set(enginetest.CurrentWrappingKey(m), []byte("rubbish"))
	for path, data := range map[string]map[string]any{"wrapping_key": nil, enginetest.TenantPath("/dek/import"): body} {
		var op logical.Operation = enginetest.Read
		if data != nil {
			op = enginetest.Update
		}
		resp, err := m.Call(op, path, data)
		require.Equal(t, 500, enginetest.Code(resp, err), path)
		require.NotContains(t, err.Error(), "rubbish")
	}
}
