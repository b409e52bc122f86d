// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// One import makes different page keys: for two tenants, and for a tenant that is
// created anew.
func TestOneImportMakesDifferentKeys(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		body := m.Imports(enginetest.OwnersKey(1))
		seen := map[string]bool{}
		imported := func(id string) {
			t.Helper()
			m.Must(enginetest.Update, "tenants/"+id+"/dek/import", body)
			enginetest.Advance(time.Minute)
			rec, err := m.Engine.Tenants.Active(t.Context(), id)
			require.NoError(t, err)
			require.NotEmpty(t, rec.Keys.Active().Fingerprint)
			v := rec.Keys.Active()
			key, err := m.Engine.Keys.OpenKey(t.Context(), rec.Owner().Binding(v.KeyID, v.KeyType, keyring.PageKey))
			require.NoError(t, err)
			require.Equal(t, enginetest.DerivedPageKey(enginetest.OwnersKey(1), rec), key)
			require.False(t, seen[hex.EncodeToString(key)])
			seen[hex.EncodeToString(key)] = true
		}
		m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
		imported(enginetest.TenantID)
		imported(enginetest.OtherTenant)
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		imported(enginetest.TenantID)
		require.Len(t, seen, 3)
	})
}

// A key that was imported before keys were derived is stored as it was brought, and
// opens.
func TestImportsFromBeforeOpen(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		w := enginetest.NewOracle(m)
		w.Put("a", "1")
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports(enginetest.OwnersKey(1)))
		enginetest.Advance(time.Minute)
		w.ReadsBack()

		// What a version from before would have: pages sealed by the imported key itself.
		rec := w.Record()
		v := rec.Keys.Active()
		b := rec.Owner().Binding(v.KeyID, v.KeyType, keyring.PageKey)
		kek, release, err := m.Engine.Keys.CurrentKEK(t.Context(), keyring.Owner{}, "")
		require.NoError(t, err)
		require.NoError(t, m.Engine.Keys.PutKey(t.Context(), kek, b, enginetest.OwnersKey(1)))
		release()
		m.Engine.InvalidateKey(t.Context(), "keys/any")
		for _, name := range append(m.PageKeys(), m.DeltaKeys()...) {
			m.Disk.Set(name, nil)
		}
		m.DropPages()
		m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("2"))
		m.DropPages()
		require.Equal(t, enginetest.Secret("2")["data"], m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)["data"])
		m.Refused(409, "imported before", enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports(enginetest.OwnersKey(1)))
		m.Rotated(nil)
		require.Equal(t, enginetest.Secret("2")["data"], m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)["data"])
	})
}

func TestConstantKeysAreRefused(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		for _, fill := range []byte{0, 1, 0x7f, 0xff} {
			key := make([]byte, keyring.KeySize)
			for i := range key {
				key[i] = fill
			}
			body := m.Imports(key)
			m.Refused(400, "a key must be random", enginetest.Update, enginetest.TenantPath("/dek/import"), body)
			key[keyring.KeySize-1]++
			m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports(key))
			enginetest.Advance(time.Minute)
		}
	})
}
