// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// derivedPageKey is HKDF-SHA-256 (RFC 5869) as docs/formats.md has it, for the active
// version of a tenant.
func derivedPageKey(imported []byte, rec *tenant.Record) []byte {
	v := rec.Keys.Active()
	extract := hmac.New(sha256.New, make([]byte, sha256.Size))
	extract.Write(imported)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write(keyringtest.AssociatedData("vault-plugin-dek/imported-page-key/v1", rec.ID, rec.Incarnation, v.KeyID, string(v.KeyType)))
	expand.Write([]byte{1})
	return expand.Sum(nil)
}

// One import makes different page keys: for two tenants, and for a tenant that is
// created anew.
func TestOneImportMakesDifferentKeys(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		body := m.imports(ownersKey(1))
		seen := map[string]bool{}
		imported := func(id string) {
			t.Helper()
			m.must(update, "tenants/"+id+"/dek/import", body)
			advance(time.Minute)
			rec, err := m.b.Tenants.Active(t.Context(), id)
			require.NoError(t, err)
			require.NotEmpty(t, rec.Keys.Active().Fingerprint)
			v := rec.Keys.Active()
			key, err := m.b.Keys.OpenKey(t.Context(), rec.Owner().Binding(v.KeyID, v.KeyType, keyring.PageKey))
			require.NoError(t, err)
			require.Equal(t, derivedPageKey(ownersKey(1), rec), key)
			require.False(t, seen[hex.EncodeToString(key)])
			seen[hex.EncodeToString(key)] = true
		}
		m.must(update, "tenants/"+otherTenant, nil)
		imported(testTenant)
		imported(otherTenant)
		m.must(del, tenantPath(""), map[string]any{"deletion_window": 0})
		m.must(update, tenantPath(""), nil)
		imported(testTenant)
		require.Len(t, seen, 3)
	})
}

// A key that was imported before keys were derived is stored as it was brought, and
// opens.
func TestImportsFromBeforeOpen(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		w := newWitness(m)
		w.put("a", "1")
		m.must(update, tenantPath("/dek/import"), m.imports(ownersKey(1)))
		advance(time.Minute)
		w.readsBack()

		// What a version from before would have: pages sealed by the imported key itself.
		rec := w.record()
		v := rec.Keys.Active()
		b := rec.Owner().Binding(v.KeyID, v.KeyType, keyring.PageKey)
		kek, release, err := m.b.Keys.CurrentKEK(t.Context())
		require.NoError(t, err)
		require.NoError(t, m.b.Keys.PutKey(t.Context(), kek, b, ownersKey(1)))
		release()
		m.b.InvalidateKey(t.Context(), "keys/any")
		for _, name := range append(m.pageKeys(), m.deltaKeys()...) {
			m.disk.Set(name, nil)
		}
		m.dropPages()
		m.must(update, itemPath("a"), secret("2"))
		m.dropPages()
		require.Equal(t, secret("2")["data"], m.must(read, itemPath("a"), nil)["data"])
		m.refused(409, "imported before", update, tenantPath("/dek/import"), m.imports(ownersKey(1)))
		m.rotated(nil)
		require.Equal(t, secret("2")["data"], m.must(read, itemPath("a"), nil)["data"])
	})
}

func TestConstantKeysAreRefused(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		for _, fill := range []byte{0, 1, 0x7f, 0xff} {
			key := make([]byte, keyring.KeySize)
			for i := range key {
				key[i] = fill
			}
			body := m.imports(key)
			m.refused(400, "a key must be random", update, tenantPath("/dek/import"), body)
			key[keyring.KeySize-1]++
			m.must(update, tenantPath("/dek/import"), m.imports(key))
			advance(time.Minute)
		}
	})
}
