// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Each key of a version has the time of its own destruction.
func TestDestructionOfEachKeyIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.WithTenant(t)
		dates := func(version int) (page, external any) {
			v := m.VersionList()[version-1]
			return v["page_key_destroyed_at"], v["external_key_destroyed_at"]
		}
		now := func() any { return time.Now().UTC().Format(time.RFC3339Nano) }
		for range 3 { // versions 1 and 3 are used outside, 2 is not
			m.Rotated(nil)
		}
		page, external := dates(1)
		require.Nil(t, page, "it is kept for the retention")
		require.Nil(t, external)
		m.Encrypted(enginetest.TenantID, "under version 4")
		m.Rotated(nil)
		enginetest.Advance(8 * enginetest.Day)
		at := now()
		m.Tick()
		synctest.Wait()
		for version := 1; version <= 3; version++ {
			page, external = dates(version)
			require.Equal(t, at, page, version)
			require.Nil(t, external, "there never was one")
			require.Equal(t, at, m.VersionList()[version-1]["destroyed_at"])
		}
		page, external = dates(4)
		require.Equal(t, at, page)
		require.Nil(t, external, "it is there")
		require.Equal(t, "deactivated", m.VersionList()[3]["state"])

		enginetest.Advance(enginetest.Day)
		destroyed := m.Must(enginetest.Update, enginetest.TenantPath("/dek/versions/4/destroy"), map[string]any{"force": true})
		require.Equal(t, at, destroyed["page_key_destroyed_at"], "that was before")
		require.Equal(t, now(), destroyed["external_key_destroyed_at"])
		page, external = dates(4)
		require.Equal(t, at, page)
		require.Equal(t, now(), external)
		page, external = dates(5)
		require.Nil(t, page)
		require.Nil(t, external)
	})
}

// A forced destruction that breaks off after the external key has gone still tells that
// there was one.
func TestDestructionIsShownAfterItBrokeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.WithTenant(t)
		m.Encrypted(enginetest.TenantID, "x")
		m.Rotated(nil)
		m.Storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(key, "keys/") && !strings.HasSuffix(key, ".ext") {
				return storagetest.Before
			}
			return storagetest.None
		})
		force := map[string]any{"force": true}
		resp, err := m.Call(enginetest.Update, enginetest.TenantPath("/dek/versions/1/destroy"), force)
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.Empty(t, externalKeys(m))
		require.Nil(t, m.VersionList()[0]["destroyed_at"])
		m.Storage.Fail(nil)
		enginetest.Advance(time.Hour)
		require.NotNil(t, m.Must(enginetest.Update, enginetest.TenantPath("/dek/versions/1/destroy"), force)["external_key_destroyed_at"])
	})
}

func TestLastExternalUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.WithTenant(t)
		defer m.Close()
		today := func() any { return time.Now().UTC().Format(time.DateOnly) }
		last := func(version int) any { return m.VersionList()[version-1]["last_external_use"] }
		require.Nil(t, last(1))
		m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
		require.Nil(t, last(1), "nothing was opened")
		ciphertext := m.Encrypted(enginetest.TenantID, "x")
		require.Equal(t, today(), last(1), "at once")
		first := today()
		m.Rotated(nil)
		require.Nil(t, last(2))
		enginetest.Advance(3 * enginetest.Day)
		require.Equal(t, first, last(1))
		for _, use := range []struct {
			path string
			data map[string]any
			on   int
		}{
			{"/decrypt", map[string]any{"ciphertext": ciphertext}, 1},
			{"/rewrap", map[string]any{"ciphertext": ciphertext}, 1},
			{"/rewrap", map[string]any{"ciphertext": ciphertext}, 2},
			{"/encrypt", map[string]any{"batch_input": []any{map[string]any{"plaintext": ""}, map[string]any{"plaintext": ""}}}, 2},
			{"/datakey/wrapped", nil, 2},
		} {
			enginetest.Advance(2 * enginetest.Day)
			m.Must(enginetest.Update, enginetest.TenantPath(use.path), use.data)
			require.Equal(t, today(), last(use.on), "%s", use.path)
		}
		m.Tick()
		synctest.Wait()
		m.Close()
		again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer again.Close()
		require.Equal(t, today(), again.VersionList()[1]["last_external_use"], "after a restart")
	})
}

// However often a version is used: one write a day, in the background.
func TestLastExternalUseIsOneWriteADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.WithTenant(t)
		puts := 0
		m.Storage.Hook(func(op, key string) {
			if op == "put" && strings.HasPrefix(key, "uses/") {
				puts++
			}
		})
		for n := range 3 {
			for range 20 {
				m.Encrypted(enginetest.TenantID, "x")
				m.Tick()
				synctest.Wait()
			}
			require.Equal(t, n+1, puts)
			enginetest.Advance(enginetest.Day)
		}
		m.Close()
		again := enginetest.Conditions{}.Open(t, m.Disk, 0, storagetest.None)
		defer again.Close()
		again.Storage.Fail(func(op, key string) storagetest.Fault {
			require.False(t, op == "put" && strings.HasPrefix(key, "uses/"), "it is stored already")
			return storagetest.None
		})
		again.Start()
		synctest.Wait()
	})
}

// What cannot be noted fails no request, and is noted when storage works again. What
// cannot be read is said to be missing.
func TestLastExternalUseFailsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.WithTenant(t)
		defer m.Close()
		m.Storage.Fail(func(_, key string) storagetest.Fault {
			if strings.HasPrefix(key, "uses/") {
				return storagetest.Before
			}
			return storagetest.None
		})
		ciphertext := m.Encrypted(enginetest.TenantID, "x")
		m.OpensTo("x", ciphertext)
		m.Tick()
		synctest.Wait()
		resp, err := m.Call(enginetest.Read, enginetest.TenantPath("/dek"), nil)
		require.Equal(t, 200, enginetest.Code(resp, err))
		require.NotEmpty(t, resp.Warnings)
		require.NotNil(t, resp.Data["versions"].([]map[string]any)[0]["last_external_use"], "what is in memory")
		m.Storage.Fail(nil)
		m.Tick()
		synctest.Wait()
		require.Len(t, m.Disk.Keys("uses/"), 1)
		require.Empty(t, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["warnings"])
	})
}

// Nothing is noted for a tenant that is shredded, and what was is deleted with it.
func TestLastExternalUseGoesWithTheTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.WithTenant(t)
		defer m.Close()
		m.Encrypted(enginetest.TenantID, "x")
		m.Tick()
		synctest.Wait()
		require.Len(t, m.Disk.Keys("uses/"), 1)
		enginetest.Advance(enginetest.Day)
		m.Encrypted(enginetest.TenantID, "y") // noted, and not written yet
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.Empty(t, m.Disk.Keys("uses/"))
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Tick()
		synctest.Wait()
		require.Empty(t, m.Disk.Keys("uses/"), "it was another tenant's")
		require.Nil(t, m.VersionList()[0]["last_external_use"])
	})
}
