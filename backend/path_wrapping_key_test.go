// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"crypto/sha256"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestWrappingKey(t *testing.T) {
	m := withTenant(t)
	first := m.publicKey()
	require.Equal(t, 4096, first.N.BitLen())
	require.Equal(t, first, m.publicKey(), "the same from then on")
	re := openMount(t, m.disk, 0, storagetest.None)
	defer re.close()
	require.Equal(t, first, re.publicKey())
	require.Contains(t, keystore.SealWrapped(), "import/wrapping_key")
	require.Len(t, m.disk.Keys("import/keys/"), 1)
}

// However many read it first at once: one key.
func TestWrappingKeyIsMadeOnce(t *testing.T) {
	m := newMount(t)
	defer m.close()
	before := wrappingKeysMade.Load()
	var all sync.WaitGroup
	seen := make([]any, 16)
	for i := range seen {
		all.Go(func() {
			resp, err := m.b.HandleRequest(t.Context(), &logical.Request{Operation: read, Path: "wrapping_key", Storage: m.storage})
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
	require.Equal(t, before+1, wrappingKeysMade.Load())
}

// Whatever fails while it is made: a public key that was answered is the one that
// unwraps, then and later.
func TestWrappingKeyAtEveryFault(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.Gone} {
			synctest.Test(t, func(t *testing.T) {
				m := openMount(t, storagetest.NewDisk(), 0, storagetest.None)
				m.must(update, tenantPath(""), nil)
				synctest.Wait()
				m.storage.FailNext(n, fault)
				_, err := m.call(read, "wrapping_key", nil)
				require.Error(t, err, "%d %s", n, fault)
				m.crash()
				m = openMount(t, m.disk, 0, storagetest.None)
				public := m.publicKey()
				m.disk.RestartVault()
				require.Equal(t, public, m.publicKey())
				m.must(update, tenantPath("/dek/import"), map[string]any{"ciphertext": wrapped(t, public, sha256.New(), ownersKey(1))})
				m.close()
			})
		}
	}
}

func TestDamagedWrappingKeyIsAFault(t *testing.T) {
	m := withTenant(t)
	body := m.imports(ownersKey(1))
	m.disk.Set(currentWrappingKey(m), []byte("rubbish"))
	for path, data := range map[string]map[string]any{"wrapping_key": nil, tenantPath("/dek/import"): body} {
		var op logical.Operation = read
		if data != nil {
			op = update
		}
		resp, err := m.call(op, path, data)
		require.Equal(t, 500, code(resp, err), path)
		require.NotContains(t, err.Error(), "rubbish")
	}
}
