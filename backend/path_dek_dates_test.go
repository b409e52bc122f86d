// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Each key of a version has the time of its own destruction.
func TestDestructionOfEachKeyIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := withTenant(t)
		dates := func(version int) (page, external any) {
			v := m.versionList()[version-1]
			return v["page_key_destroyed_at"], v["external_key_destroyed_at"]
		}
		now := func() any { return time.Now().UTC().Format(time.RFC3339Nano) }
		for range 3 { // versions 1 and 3 are used outside, 2 is not
			m.rotated(nil)
		}
		page, external := dates(1)
		require.Nil(t, page, "it is kept for the retention")
		require.Nil(t, external)
		m.encrypted(testTenant, "under version 4")
		m.rotated(nil)
		advance(8 * day)
		at := now()
		m.tick()
		synctest.Wait()
		for version := 1; version <= 3; version++ {
			page, external = dates(version)
			require.Equal(t, at, page, version)
			require.Nil(t, external, "there never was one")
			require.Equal(t, at, m.versionList()[version-1]["destroyed_at"])
		}
		page, external = dates(4)
		require.Equal(t, at, page)
		require.Nil(t, external, "it is there")
		require.Equal(t, "deactivated", m.versionList()[3]["state"])

		advance(day)
		destroyed := m.must(update, tenantPath("/dek/versions/4/destroy"), map[string]any{"force": true})
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
		m := withTenant(t)
		m.encrypted(testTenant, "x")
		m.rotated(nil)
		m.storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(key, "keys/") && !strings.HasSuffix(key, ".ext") {
				return storagetest.Before
			}
			return storagetest.None
		})
		force := map[string]any{"force": true}
		resp, err := m.call(update, tenantPath("/dek/versions/1/destroy"), force)
		require.Equal(t, 500, code(resp, err))
		require.Empty(t, m.externalKeys())
		require.Nil(t, m.versionList()[0]["destroyed_at"])
		m.storage.Fail(nil)
		advance(time.Hour)
		require.NotNil(t, m.must(update, tenantPath("/dek/versions/1/destroy"), force)["external_key_destroyed_at"])
	})
}

func TestLastExternalUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := withTenant(t)
		defer m.close()
		today := func() any { return time.Now().UTC().Format(time.DateOnly) }
		last := func(version int) any { return m.versionList()[version-1]["last_external_use"] }
		require.Nil(t, last(1))
		m.refused(400, "does not open", update, tenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
		require.Nil(t, last(1), "nothing was opened")
		ciphertext := m.encrypted(testTenant, "x")
		require.Equal(t, today(), last(1), "at once")
		first := today()
		m.rotated(nil)
		require.Nil(t, last(2))
		advance(3 * day)
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
			advance(2 * day)
			m.must(update, tenantPath(use.path), use.data)
			require.Equal(t, today(), last(use.on), "%s", use.path)
		}
		m.tick()
		synctest.Wait()
		m.close()
		again := openMount(t, m.disk, 0, storagetest.None)
		defer again.close()
		require.Equal(t, today(), again.versionList()[1]["last_external_use"], "after a restart")
	})
}

// However often a version is used: one write a day, in the background.
func TestLastExternalUseIsOneWriteADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := withTenant(t)
		puts := 0
		m.storage.Hook(func(op, key string) {
			if op == "put" && strings.HasPrefix(key, "uses/") {
				puts++
			}
		})
		for n := range 3 {
			for range 20 {
				m.encrypted(testTenant, "x")
				m.tick()
				synctest.Wait()
			}
			require.Equal(t, n+1, puts)
			advance(day)
		}
		m.close()
		again := openMount(t, m.disk, 0, storagetest.None)
		defer again.close()
		again.storage.Fail(func(op, key string) storagetest.Fault {
			require.False(t, op == "put" && strings.HasPrefix(key, "uses/"), "it is stored already")
			return storagetest.None
		})
		synctest.Wait()
	})
}

// What cannot be noted fails no request, and is noted when storage works again. What
// cannot be read is said to be missing.
func TestLastExternalUseFailsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := withTenant(t)
		defer m.close()
		m.storage.Fail(func(_, key string) storagetest.Fault {
			if strings.HasPrefix(key, "uses/") {
				return storagetest.Before
			}
			return storagetest.None
		})
		ciphertext := m.encrypted(testTenant, "x")
		m.opensTo("x", ciphertext)
		m.tick()
		synctest.Wait()
		resp, err := m.call(read, tenantPath("/dek"), nil)
		require.Equal(t, 200, code(resp, err))
		require.NotEmpty(t, resp.Warnings)
		require.NotNil(t, resp.Data["versions"].([]map[string]any)[0]["last_external_use"], "what is in memory")
		m.storage.Fail(nil)
		m.tick()
		synctest.Wait()
		require.Len(t, m.disk.Keys("uses/"), 1)
		require.Empty(t, m.must(read, tenantPath("/dek"), nil)["warnings"])
	})
}

// Nothing is noted for a tenant that is shredded, and what was is deleted with it.
func TestLastExternalUseGoesWithTheTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := withTenant(t)
		defer m.close()
		m.encrypted(testTenant, "x")
		m.tick()
		synctest.Wait()
		require.Len(t, m.disk.Keys("uses/"), 1)
		advance(day)
		m.encrypted(testTenant, "y") // noted, and not written yet
		m.must(del, tenantPath(""), map[string]any{"deletion_window": 0})
		require.Empty(t, m.disk.Keys("uses/"))
		m.must(update, tenantPath(""), nil)
		m.tick()
		synctest.Wait()
		require.Empty(t, m.disk.Keys("uses/"), "it was another tenant's")
		require.Nil(t, m.versionList()[0]["last_external_use"])
	})
}

// lastUseScenarios are those in which the tick writes what requests have noted.
var lastUseScenarios = []scenario{
	{
		name: "use external keys, note it, and destroy one",
		before: func(w *witness) {
			w.create()
			w.encrypt("old")
			w.rotate()
			advance(time.Second)
		},
		act: func(w *witness) {
			w.encrypt("new")
			w.tick()
			advance(day)
			w.rewrap()
			w.tick()
			w.destroy(1, true)
			advance(day)
			w.encrypt("another day")
			w.tick()
		},
	},
	{
		name: "use external keys, and shred",
		before: func(w *witness) {
			w.create()
			w.encrypt("old")
			w.tick()
			advance(day)
		},
		act: func(w *witness) {
			w.encrypt("new")
			w.outside.sealed = nil
			w.deleteTenant("0")
			w.tick()
			w.create()
			w.tick()
		},
	},
}

func TestEveryCrashPointOfLastUse(t *testing.T) { atEveryPoint(t, lastUseScenarios) }
