// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func destroyPath(version any) string {
	return tenantPath(fmt.Sprintf("/dek/versions/%v/destroy", version))
}

// inFakeTime runs f on a mount with a tenant, whose rotations take no time.
func inFakeTime(t *testing.T, f func(m *mount)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.destroyAtOnce()
		m.must(update, tenantPath(""), nil)
		f(m)
	})
}

func TestRetiringKeepsTheExternalKey(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		ciphertext := m.encrypted(testTenant, "x")
		m.rotated(nil)
		m.rotated(nil)
		v := m.versionList()
		require.Equal(t, []any{"deactivated", true, nil}, []any{v[0]["state"], v[0]["external_use"], v[0]["destroyed_at"]})
		require.Equal(t, []any{"destroyed", false}, []any{v[1]["state"], v[1]["external_use"]})
		require.NotNil(t, v[1]["destroyed_at"])
		require.Len(t, m.disk.Keys("keys/"), 3, "placement, external of 1, page of 3")
		m.opensTo("x", ciphertext)
	})
}

func TestDestroyVersion(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		m.must(update, "config", map[string]any{"retired_key_retention": "24h"})
		ciphertext := m.encrypted(testTenant, "x")
		for range 3 {
			m.rotated(nil)
		}
		for _, v := range m.versionList()[:3] {
			require.Equal(t, "deactivated", v["state"])
		}
		got := m.must(update, destroyPath(2), nil)
		require.Equal(t, m.versionList()[1], got)
		require.Equal(t, []any{"destroyed", false, 0}, []any{got["state"], got["external_use"], got["pages"]})
		require.NotNil(t, got["destroyed_at"], "one in the middle, not only the oldest")

		before := m.disk.Clone()
		require.Equal(t, got, m.must(update, destroyPath(2), nil), "again")
		require.Equal(t, got, m.must(update, destroyPath(2), map[string]any{"force": true}), "again")
		require.Equal(t, before, m.disk.Clone())

		m.refused(409, "external_use", update, destroyPath(1), nil)
		m.refused(409, "external_use", update, destroyPath(1), map[string]any{"force": false})
		for _, force := range []any{1, 2, "", "yes", []any{}, map[string]any{}} {
			m.refused(400, "force must be", update, destroyPath(1), map[string]any{"force": force})
		}
		m.opensTo("x", ciphertext)
		got = m.must(update, destroyPath(1), map[string]any{"force": true})
		require.Equal(t, []any{"destroyed", false}, []any{got["state"], got["external_use"]})
		m.refused(400, "destroyed", update, tenantPath("/decrypt"), map[string]any{"ciphertext": ciphertext})
		m.refused(400, "destroyed", update, tenantPath("/rewrap"), map[string]any{"ciphertext": ciphertext})
		require.Len(t, m.disk.Keys("keys/"), 3, "placement, page of 3, page of 4")

		// The day on which the retired keys go comes, and meets one that has gone.
		advance(50 * time.Hour)
		w := newWitness(m)
		w.tick()
		require.Equal(t, "destroyed", m.versionList()[2]["state"])
	})
}

func TestDestroyVersionIsRefused(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		for _, force := range []bool{false, true} {
			data := map[string]any{"force": force}
			m.refused(409, "active", update, destroyPath(1), data)
			m.refused(404, "version", update, destroyPath(2), data)
			for _, v := range []string{"0", "01", "+1", "-1", "1.0", "x", "1x", "99999999999", "\u0661", "%31", " 1"} {
				m.refused(400, "version must be", update, destroyPath(v), data)
			}
			m.refused(404, "tenant", update, "tenants/"+otherTenant+"/dek/versions/1/destroy", data)
			m.refused(400, "tenant_id", update, "tenants/x/dek/versions/1/destroy", data)
		}
		m.rotated(nil)
		m.refused(400, "force", update, destroyPath(1), map[string]any{"force": "perhaps"})
	})
}

// Both versions of an unfinished rotation stay, whichever way it goes.
func TestVersionsOfARotationAreNotDestroyed(t *testing.T) {
	inRotation(t, func(w *witness, id string) {
		refused := func() {
			for _, v := range []int{1, 2} {
				for _, force := range []bool{false, true} {
					w.refused(409, id, update, destroyPath(v), map[string]any{"force": force})
				}
			}
		}
		refused()
		w.must(update, action(id, "pause"), nil)
		refused()
		w.must(update, action(id, "cancel"), nil)
		refused()
		w.b.Pages.Release()
		advance(time.Second)
	})
}

// damagedRotation leaves version 1 with the one page that does not open.
func damagedRotation(t *testing.T) *witness {
	t.Helper()
	w := filled(t, 40)
	w.damage()
	w.rotate()
	advance(time.Second)
	require.Equal(t, "failed", w.status(w.rotations[0])["status"])
	w.damage()
	return w
}

func TestDestroyVersionWithPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := damagedRotation(t)
		defer w.close()
		v := w.versionList()[0]
		require.Equal(t, []any{"deactivated", 1}, []any{v["state"], v["pages"]})
		w.refused(409, "pages of items are on it (1)", update, destroyPath(1), nil)
		w.readsBack()

		require.Equal(t, "destroyed", w.must(update, destroyPath(1), map[string]any{"force": true})["state"])
		lost := 0
		for item := range w.allowed {
			resp, err := w.call(read, itemPath(item), nil)
			if c := code(resp, err); c != 200 {
				require.Equal(t, 410, c, "%v", err)
				require.Contains(t, err.Error(), "destroyed")
				require.NotContains(t, err.Error(), item)
				w.refused(410, "destroyed", "patch", itemPath(item), secret("new"))
				lost++
			}
		}
		require.Positive(t, lost)
		require.Less(t, lost, len(w.allowed))

		w.rotate()
		advance(time.Second)
		st := w.status(w.rotations[1])
		require.Equal(t, []any{"completed", lost}, []any{st["status"], st["items_failed"]})
		require.Equal(t, len(w.allowed)-lost, st["items_rotated"].(map[string]int)["secrets"])
		require.Contains(t, fmt.Sprint(st["failures"]), "destroyed by force")
	})
}

// A page whose header cannot be read may be on any version.
func TestDestroyVersionBesideADamagedHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 1)
		defer w.close()
		w.must(update, "config", map[string]any{"retired_key_retention": "24h"})
		w.rotate()
		advance(time.Second)
		w.disk.Set(w.disk.Keys("pages/")[0], []byte{0xff})
		w.refused(409, "cannot be read", update, destroyPath(1), nil)
		w.must(update, destroyPath(1), map[string]any{"force": true})
	})
}

// What is destroyed in part is destroyed by asking again, and by the end of the
// next rotation.
func TestDestroyVersionThatBrokeOff(t *testing.T) {
	for name, finish := range map[string]func(*mount){
		"asked again": func(m *mount) { m.must(update, destroyPath(1), map[string]any{"force": true}) },
		"rotated":     func(m *mount) { m.rotated(nil) },
		"retention, then": func(m *mount) {
			m.must(update, "config", map[string]any{"retired_key_retention": "1h"})
			m.rotated(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(m *mount) {
				m.encrypted(testTenant, "x")
				m.rotated(nil)
				puts := 0 // the first notes that there is an external key
				m.storage.Fail(func(op, key string) storagetest.Fault {
					if fault := on("put", "tenants/", storagetest.Before)(op, key); fault != storagetest.None {
						if puts++; puts > 1 {
							return fault
						}
					}
					return storagetest.None
				})
				resp, err := m.call(update, destroyPath(1), map[string]any{"force": true})
				require.Equal(t, 500, code(resp, err))
				m.storage.Fail(nil)
				require.Equal(t, []any{"deactivated", false}, []any{m.versionList()[0]["state"], m.versionList()[0]["external_use"]})
				finish(m)
				require.Equal(t, "destroyed", m.versionList()[0]["state"])
			})
		})
	}
}

func TestMinDecryptionVersion(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		least := func(n any) map[string]any { return map[string]any{"min_decryption_version": n} }
		path := tenantPath("/dek/config")
		m.must(update, itemPath("a"), secret("v"))
		old := m.encrypted(testTenant, "old")
		require.Equal(t, least(1), m.must(update, path, nil), "nothing is named, nothing changes")
		m.rotated(nil)
		m.rotated(nil)
		for _, n := range []any{0, -1, 4, 1 << 40, 1.5, "x"} {
			m.refused(400, "min_decryption_version", update, path, least(n))
		}
		m.refused(404, "tenant", update, "tenants/"+otherTenant+"/dek/config", least(1))
		m.refused(400, "tenant_id", update, "tenants/x/dek/config", least(1))

		require.Equal(t, least(3), m.must(update, path, least(3)))
		require.Equal(t, 3, m.must(read, tenantPath("/dek"), nil)["min_decryption_version"])
		for _, p := range []string{"/decrypt", "/rewrap"} {
			m.refused(400, "min_decryption_version", update, tenantPath(p), map[string]any{"ciphertext": old})
		}
		m.opensTo("new", m.encrypted(testTenant, "new"))
		require.Equal(t, "v", m.must(read, itemPath("a"), nil)["data"].(map[string]any)["value"])

		require.Equal(t, least(1), m.must(update, path, least(1)))
		m.opensTo("old", old)
	})
}

// What is sealed after a cancel opens, though the least version was of the
// rotation that was cancelled.
func TestCancelLowersMinDecryptionVersion(t *testing.T) {
	inRotation(t, func(w *witness, id string) {
		w.must(update, tenantPath("/dek/config"), map[string]any{"min_decryption_version": 2})
		w.must(update, action(id, "cancel"), nil)
		require.Equal(t, 1, w.must(read, tenantPath("/dek"), nil)["min_decryption_version"])
		w.opensTo("x", w.encrypted(testTenant, "x"))
		w.b.Pages.Release()
		advance(time.Second)
	})
}
