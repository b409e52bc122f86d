// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A tenant that is asked to rotate after a leak is rotated for the leak, though its own
// administrator retries the rotation that failed before, or cancels the one that the
// leak has started.
func TestLeakOutlastsRetryAndCancel(t *testing.T) {
	for name, ask := range map[string]map[string]any{
		"all": {"all": true, "reason": "leak"}, "named": {"tenants": []any{enginetest.TenantID}, "reason": "leak"},
	} {
		for _, how := range []string{"retry", "cancel"} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := enginetest.Failing(t)
					defer w.Close()
					failed := w.Record().Last.ID
					places := takeAllPlaces(w.Mount)
					w.Must(enginetest.Update, "rotations", ask)
					if how == "retry" {
						_, _ = w.Call(enginetest.Update, enginetest.Action(failed, "retry"), nil)
					}
					enginetest.Advance(time.Second)
					if r := w.Record().Rotation; r != nil && how == "cancel" {
						w.Must(enginetest.Update, enginetest.Action(r.ID, "cancel"), nil)
					}
					w.Damage() // and it is repaired
					places()
					w.Hourly(3 * enginetest.Day)
					latest := w.Latest()
					require.Equal(t, []any{"completed", "requested", "leak"}, []any{latest["status"], latest["trigger"], latest["reason"]})
					require.NotEqual(t, failed, latest["rotation_id"])
					require.Equal(t, 0, w.Must(enginetest.Read, "status", nil)["overdue"])
				})
			})
		}
	}
}

// takeAllPlaces lets no page move until the places are given back.
func takeAllPlaces(m *enginetest.Mount) (release func()) {
	for range 32 {
		<-m.Engine.Pages.Request()
	}
	return func() {
		for range 32 {
			m.Engine.Pages.Release()
		}
	}
}

// A campaign reaches tenants that were paused, or being deleted, when it was asked for.
// Until then status names them.
func TestCampaignReachesThoseHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		const paused, deleting, later = 0, 1, 2
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(paused), map[string]any{"rotation_paused": true})
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(deleting), nil)
		m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(deleting), map[string]any{"deletion_window": "720h"})
		enginetest.Advance(time.Hour)
		m.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(later), nil)
		m.Hourly(20 * enginetest.Day)
		require.Empty(t, m.RotationsOf(enginetest.TenantN(later)), "it was created after the leak")
		st := m.Must(enginetest.Read, "status", nil)
		require.Equal(t, map[string]string{
			enginetest.TenantN(paused):   "a rotation was asked for, and rotation_paused is set",
			enginetest.TenantN(deleting): "a rotation was asked for, and the tenant is being deleted: it is rotated if it is restored",
		}, st["blocked_tenants"])
		require.Equal(t, []any{0, 1}, []any{st["overdue"], st["paused_overdue"]})
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(paused), map[string]any{"rotation_paused": false})
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(deleting)+"/restore", nil)
		m.Tick()
		for _, n := range []int{paused, deleting} {
			rotations := m.RotationsOf(enginetest.TenantN(n))
			require.NotEmpty(t, rotations, "it was asked for, acknowledged and forgotten")
			require.Equal(t, "leak", rotations[0]["reason"])
		}
		require.Equal(t, 0, m.Must(enginetest.Read, "status", nil)["blocked"])
	})
}

// Status judges by the age of the key: a rotation that was paused and forgotten does not
// hide it, nor do rotations that are cancelled each day.
func TestOldKeysAreOverdueWhateverBecomesOfTheirRotations(t *testing.T) {
	t.Run("paused and forgotten", func(t *testing.T) {
		enginetest.InRotation(t, func(w *enginetest.Oracle, id string) {
			w.Must(enginetest.Update, enginetest.Action(id, "pause"), nil)
			w.Engine.Pages.Release()
			w.Daily(364 * enginetest.Day)
			require.Equal(t, 0, w.Must(enginetest.Read, "status", nil)["overdue"])
			w.Daily(3 * 365 * enginetest.Day)
			st := w.Must(enginetest.Read, "status", nil)
			require.Equal(t, []string{enginetest.TenantID}, st["overdue_tenants"])
			w.Engine.Pages.Request()
		})
	})
	t.Run("cancelled each day", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := enginetest.NewOracle(enginetest.NewMount(t))
			defer w.Close()
			w.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
			w.Create()
			w.Bulk(4, 3000)
			w.Daily(364 * enginetest.Day)
			places := takeAllPlaces(w.Mount)
			cancelled := 0
			for range 10 * 24 {
				w.Hourly(time.Hour)
				if r := w.Record().Rotation; r != nil && r.Phase == "sweeping" {
					w.Must(enginetest.Update, enginetest.Action(r.ID, "cancel"), nil)
					cancelled++
					places()
					enginetest.Advance(time.Minute)
					places = takeAllPlaces(w.Mount)
				}
			}
			require.Greater(t, cancelled, 5)
			require.Equal(t, []string{enginetest.TenantID}, w.Must(enginetest.Read, "status", nil)["overdue_tenants"])
			places()
			w.Hourly(2 * enginetest.Day)
			require.Equal(t, 0, w.Must(enginetest.Read, "status", nil)["overdue"])
		})
	})
}

// Records and settings of the version before keep their meaning.
func TestFormerRequestsKeepTheirMeaning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		for n := range 3 {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		enginetest.Advance(enginetest.Day)
		asked := time.Now()
		enginetest.Advance(enginetest.Day)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(3), nil)
		rotateOne(m, enginetest.TenantN(2)) // as that version did for the campaign
		m.Close()
		for n := range 4 {
			edit(m, "/"+enginetest.TenantN(n), func(record map[string]any) {
				delete(record, "campaign")
				if n == 0 {
					record["rotate_after"], record["rotate_reason"] = asked, "suspicion"
					record["rotate_request"], record["rotate_by"] = "rotations/1", map[string]any{"id": "alice"}
				}
			})
		}
		m.Disk.Set("settings", []byte(`{"rotation_interval":"90_DAYS","rotate_before":"`+asked.Format(time.RFC3339Nano)+
			`","rotate_reason":"leak","rotate_request":"rotations/2","rotate_by":{"id":"bob"}}`))
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		enginetest.Advance(time.Minute)
		m.Tick()
		for n, want := range map[int][]string{0: {"suspicion"}, 1: {"leak"}, 2: {""}, 3: {}} {
			reasons := []string{}
			for _, r := range m.RotationsOf(enginetest.TenantN(n)) {
				reasons = append(reasons, r["reason"].(string))
			}
			require.Equal(t, want, reasons, "tenant %d", n)
		}
		require.Equal(t, "bob", m.RotationsOf(enginetest.TenantN(1))[0]["initiated_by"].(map[string]any)["id"])
		require.Equal(t, "90_DAYS", m.Must(enginetest.Read, "key/rotationSettings", nil)["rotation_interval"])
		_, err := m.CallAs("2", enginetest.Update, "rotations", map[string]any{"all": true})
		require.NoError(t, err)
		m.Tick()
		require.Len(t, m.RotationsOf(enginetest.TenantN(1)), 1, "it is the request that was answered before")
		require.Equal(t, 0, m.Must(enginetest.Read, "status", nil)["overdue"])
	})
}

func rotateOne(m *enginetest.Mount, tenantID string) {
	m.Must(enginetest.Update, "tenants/"+tenantID+"/dek/rotate", nil)
	enginetest.Advance(time.Second)
}

// edit changes the entry on disk whose key ends so.
func edit(m *enginetest.Mount, suffix string, change func(map[string]any)) {
	m.T.Helper()
	for _, key := range m.Disk.Keys("tenants/") {
		if strings.HasSuffix(key, suffix) {
			record := map[string]any{}
			require.NoError(m.T, json.Unmarshal(m.Disk.Value(key), &record))
			change(record)
			encoded, err := json.Marshal(record)
			require.NoError(m.T, err)
			m.Disk.Set(key, encoded)
		}
	}
}
