// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestRetiringKeepsTheExternalKey(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		ciphertext := m.Encrypted(enginetest.TenantID, "x")
		m.Rotated(nil)
		m.Rotated(nil)
		v := m.VersionList()
		require.Equal(t, []any{"deactivated", true, nil}, []any{v[0]["state"], v[0]["external_use"], v[0]["destroyed_at"]})
		require.Equal(t, []any{"destroyed", false}, []any{v[1]["state"], v[1]["external_use"]})
		require.NotNil(t, v[1]["destroyed_at"])
		require.Len(t, m.Disk.Keys("keys/"), 3, "placement, external of 1, page of 3")
		m.OpensTo("x", ciphertext)
	})
}

func TestDestroyVersion(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "24h"})
		ciphertext := m.Encrypted(enginetest.TenantID, "x")
		for range 3 {
			m.Rotated(nil)
		}
		for _, v := range m.VersionList()[:3] {
			require.Equal(t, "deactivated", v["state"])
		}
		got := m.Must(enginetest.Update, enginetest.DestroyPath(2), nil)
		require.Equal(t, m.VersionList()[1], got)
		require.Equal(t, []any{"destroyed", false, 0}, []any{got["state"], got["external_use"], got["pages"]})
		require.NotNil(t, got["destroyed_at"], "one in the middle, not only the oldest")

		m.Unchanged(func() {
			require.Equal(t, got, m.Must(enginetest.Update, enginetest.DestroyPath(2), nil), "again")
			require.Equal(t, got, m.Must(enginetest.Update, enginetest.DestroyPath(2), map[string]any{"force": true}), "again")
		})

		m.Refused(409, "external_use", enginetest.Update, enginetest.DestroyPath(1), nil)
		m.Refused(409, "external_use", enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": false})
		for _, force := range []any{1, 2, "", "yes", []any{}, map[string]any{}} {
			m.Refused(400, "force must be", enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": force})
		}
		m.OpensTo("x", ciphertext)
		got = m.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
		require.Equal(t, []any{"destroyed", false}, []any{got["state"], got["external_use"]})
		m.Refused(400, "destroyed", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": ciphertext})
		m.Refused(400, "destroyed", enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": ciphertext})
		require.Len(t, m.Disk.Keys("keys/"), 3, "placement, page of 3, page of 4")

		// The day on which the retired keys go comes, and meets one that has gone.
		enginetest.Advance(50 * time.Hour)
		w := enginetest.NewOracle(m)
		w.Tick()
		require.Equal(t, "destroyed", m.VersionList()[2]["state"])
	})
}

func TestDestroyVersionIsRefused(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		for _, force := range []bool{false, true} {
			data := map[string]any{"force": force}
			m.Refused(409, "active", enginetest.Update, enginetest.DestroyPath(1), data)
			m.Refused(404, "version", enginetest.Update, enginetest.DestroyPath(2), data)
			for _, v := range []string{"0", "01", "+1", "-1", "1.0", "x", "1x", "99999999999", "\u0661", "%31", " 1"} {
				m.Refused(400, "version must be", enginetest.Update, enginetest.DestroyPath(v), data)
			}
			m.Refused(404, "tenant", enginetest.Update, "tenants/"+enginetest.OtherTenant+"/dek/versions/1/destroy", data)
			m.Refused(400, "tenant_id", enginetest.Update, "tenants/x/dek/versions/1/destroy", data)
		}
		m.Rotated(nil)
		m.Refused(400, "force", enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": "perhaps"})
	})
}

// Both versions of an unfinished rotation stay, whichever way it goes.
func TestVersionsOfARotationAreNotDestroyed(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, id string) {
		refused := func() {
			for _, v := range []int{1, 2} {
				for _, force := range []bool{false, true} {
					w.Refused(409, id, enginetest.Update, enginetest.DestroyPath(v), map[string]any{"force": force})
				}
			}
		}
		refused()
		w.Must(enginetest.Update, enginetest.Action(id, "pause"), nil)
		refused()
		w.Must(enginetest.Update, enginetest.Action(id, "cancel"), nil)
		refused()
		w.Engine.Pages.Release()
		enginetest.Advance(time.Second)
	})
}

func TestDestroyVersionWithPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.DamagedRotation(t)
		defer w.Close()
		v := w.VersionList()[0]
		require.Equal(t, []any{"deactivated", 1}, []any{v["state"], v["pages"]})
		w.Refused(409, "pages of items are on it (1)", enginetest.Update, enginetest.DestroyPath(1), nil)
		w.ReadsBack()

		require.Equal(t, "destroyed", w.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})["state"])
		lost := 0
		for item := range w.Allowed {
			resp, err := w.Call(enginetest.Read, enginetest.ItemPath(item), nil)
			if c := enginetest.Code(resp, err); c != 200 {
				require.Equal(t, 410, c, "%v", err)
				require.Contains(t, err.Error(), "destroyed")
				require.NotContains(t, err.Error(), item)
				w.Refused(410, "destroyed", "patch", enginetest.ItemPath(item), enginetest.Secret("new"))
				lost++
			}
		}
		require.Positive(t, lost)
		require.Less(t, lost, len(w.Allowed))

		w.Rotate()
		enginetest.Advance(time.Second)
		st := w.Status(w.Rotations[1])
		require.Equal(t, []any{"completed", lost}, []any{st["status"], st["items_failed"]})
		require.Equal(t, len(w.Allowed)-lost, st["items_rotated"].(map[string]int)["secrets"])
		require.Contains(t, fmt.Sprint(st["failures"]), "destroyed by force")
	})
}

// A page whose header cannot be read may be on any version.
func TestDestroyVersionBesideADamagedHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 1)
		defer w.Close()
		w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "24h"})
		w.Rotate()
		enginetest.Advance(time.Second)
		w.Disk.Set(w.Disk.Keys("pages/")[0], []byte{0xff})
		w.Refused(409, "cannot be read", enginetest.Update, enginetest.DestroyPath(1), nil)
		w.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
	})
}

// What is destroyed in part is destroyed by asking again, and by the end of the
// next rotation.
func TestDestroyVersionThatBrokeOff(t *testing.T) {
	for name, finish := range map[string]func(*enginetest.Mount){
		"asked again": func(m *enginetest.Mount) {
			m.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
		},
		"rotated": func(m *enginetest.Mount) { m.Rotated(nil) },
		"retention, then": func(m *enginetest.Mount) {
			m.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "1h"})
			m.Rotated(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.InFakeTime(t, func(m *enginetest.Mount) {
				m.Encrypted(enginetest.TenantID, "x")
				m.Rotated(nil)
				puts := 0 // the first notes that there is an external key
				m.Storage.Fail(func(op, key string) storagetest.Fault {
					if fault := enginetest.FailOn("put", "tenants/", storagetest.Before)(op, key); fault != storagetest.None {
						if puts++; puts > 1 {
							return fault
						}
					}
					return storagetest.None
				})
				resp, err := m.Call(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
				require.Equal(t, 500, enginetest.Code(resp, err))
				m.Storage.Fail(nil)
				require.Equal(t, []any{"deactivated", false}, []any{m.VersionList()[0]["state"], m.VersionList()[0]["external_use"]})
				finish(m)
				require.Equal(t, "destroyed", m.VersionList()[0]["state"])
			})
		})
	}
}

func TestMinDecryptionVersion(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		least := func(n any) map[string]any { return map[string]any{"min_decryption_version": n} }
		path := enginetest.TenantPath("/dek/config")
		m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("v"))
		old := m.Encrypted(enginetest.TenantID, "old")
		require.Equal(t, least(1), m.Must(enginetest.Update, path, nil), "nothing is named, nothing changes")
		m.Rotated(nil)
		m.Rotated(nil)
		for _, n := range []any{0, -1, 4, 1 << 40, 1.5, "x"} {
			m.Refused(400, "min_decryption_version", enginetest.Update, path, least(n))
		}
		m.Refused(404, "tenant", enginetest.Update, "tenants/"+enginetest.OtherTenant+"/dek/config", least(1))
		m.Refused(400, "tenant_id", enginetest.Update, "tenants/x/dek/config", least(1))

		require.Equal(t, least(3), m.Must(enginetest.Update, path, least(3)))
		require.Equal(t, 3, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["min_decryption_version"])
		for _, p := range []string{"/decrypt", "/rewrap"} {
			m.Refused(400, "min_decryption_version", enginetest.Update, enginetest.TenantPath(p), map[string]any{"ciphertext": old})
		}
		m.OpensTo("new", m.Encrypted(enginetest.TenantID, "new"))
		require.Equal(t, "v", m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)["data"].(map[string]any)["value"])

		require.Equal(t, least(1), m.Must(enginetest.Update, path, least(1)))
		m.OpensTo("old", old)
	})
}

// The minimum is not lowered to a version that is destroyed: nothing of it opens any more.
// One below that has its keys may be gone back to.
func TestMinimumIsNotLoweredToADestroyedVersion(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		least := func(n any) map[string]any { return map[string]any{"min_decryption_version": n} }
		path := enginetest.TenantPath("/dek/config")
		first := m.Encrypted(enginetest.TenantID, "first")
		for range 3 {
			m.Rotated(nil)
		}
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/versions/2/destroy"), nil)
		m.Must(enginetest.Update, path, least(4))
		m.Refused(400, "min_decryption_version must not be lowered to 2, a version that is destroyed", enginetest.Update, path, least(2))
		require.Equal(t, 4, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["min_decryption_version"])
		require.Equal(t, least(1), m.Must(enginetest.Update, path, least(1)))
		m.OpensTo("first", first)

		m.Must(enginetest.Update, enginetest.TenantPath("/dek/versions/1/destroy"), map[string]any{"force": true})
		require.Equal(t, least(1), m.Must(enginetest.Update, path, least(1)), "it is not lowered")
		m.Must(enginetest.Update, path, least(4))
		m.Refused(400, "min_decryption_version", enginetest.Update, path, least(1))
	})
}

// What is sealed after a cancel opens, though the least version was of the
// rotation that was cancelled.
func TestCancelLowersMinDecryptionVersion(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, id string) {
		w.Must(enginetest.Update, enginetest.TenantPath("/dek/config"), map[string]any{"min_decryption_version": 2})
		w.Must(enginetest.Update, enginetest.Action(id, "cancel"), nil)
		require.Equal(t, 1, w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["min_decryption_version"])
		w.OpensTo("x", w.Encrypted(enginetest.TenantID, "x"))
		w.Engine.Pages.Release()
		enginetest.Advance(time.Second)
	})
}
