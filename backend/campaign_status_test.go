// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A tenant that is asked to rotate after a leak is rotated for the leak, though its own
// administrator retries the rotation that failed before, or cancels the one that the
// leak has started.
func TestLeakOutlastsRetryAndCancel(t *testing.T) {
	for name, ask := range map[string]map[string]any{
		"all": {"all": true, "reason": "leak"}, "named": {"tenants": []any{testTenant}, "reason": "leak"},
	} {
		for _, how := range []string{"retry", "cancel"} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := failing(t)
					defer w.close()
					failed := w.record().Last.ID
					places := w.takeAllPlaces()
					w.must(update, "rotations", ask)
					if how == "retry" {
						_, _ = w.call(update, action(failed, "retry"), nil)
					}
					advance(time.Second)
					if r := w.record().Rotation; r != nil && how == "cancel" {
						w.must(update, action(r.ID, "cancel"), nil)
					}
					w.damage() // and it is repaired
					places()
					w.hourly(3 * day)
					latest := w.latest()
					require.Equal(t, []any{"completed", "requested", "leak"}, []any{latest["status"], latest["trigger"], latest["reason"]})
					require.NotEqual(t, failed, latest["rotation_id"])
					require.Equal(t, 0, w.must(read, "status", nil)["overdue"])
				})
			})
		}
	}
}

// takeAllPlaces lets no page move until the places are given back.
func (m *mount) takeAllPlaces() (release func()) {
	for range 32 {
		<-m.b.pages.Request()
	}
	return func() {
		for range 32 {
			m.b.pages.Release()
		}
	}
}

// A campaign reaches tenants that were paused, or being deleted, when it was asked for.
// Until then status names them.
func TestCampaignReachesThoseHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		const paused, deleting, later = 0, 1, 2
		m.must(update, "tenants/"+tenantN(paused), map[string]any{"rotation_paused": true})
		m.must(update, "tenants/"+tenantN(deleting), nil)
		m.must(del, "tenants/"+tenantN(deleting), map[string]any{"deletion_window": "720h"})
		advance(time.Hour)
		m.must(update, "rotations", map[string]any{"all": true, "reason": "leak"})
		advance(time.Minute)
		m.must(update, "tenants/"+tenantN(later), nil)
		m.hourly(20 * day)
		require.Empty(t, m.rotationsOf(tenantN(later)), "it was created after the leak")
		st := m.must(read, "status", nil)
		require.Equal(t, map[string]string{
			tenantN(paused):   "a rotation was asked for, and rotation_paused is set",
			tenantN(deleting): "a rotation was asked for, and the tenant is being deleted: it is rotated if it is restored",
		}, st["blocked_tenants"])
		require.Equal(t, []any{0, 1}, []any{st["overdue"], st["paused_overdue"]})
		m.must(update, "tenants/"+tenantN(paused), map[string]any{"rotation_paused": false})
		m.must(update, "tenants/"+tenantN(deleting)+"/restore", nil)
		m.tick()
		for _, n := range []int{paused, deleting} {
			require.Equal(t, "leak", m.rotationsOf(tenantN(n))[0]["reason"])
		}
		require.Equal(t, 0, m.must(read, "status", nil)["blocked"])
	})
}

// Status judges by the age of the key: a rotation that was paused and forgotten does not
// hide it, nor do rotations that are cancelled each day.
func TestOldKeysAreOverdueWhateverBecomesOfTheirRotations(t *testing.T) {
	t.Run("paused and forgotten", func(t *testing.T) {
		inRotation(t, func(w *witness, id string) {
			w.must(update, action(id, "pause"), nil)
			w.b.pages.Release()
			w.hourly(364 * day)
			require.Equal(t, 0, w.must(read, "status", nil)["overdue"])
			w.hourly(3 * 365 * day)
			st := w.must(read, "status", nil)
			require.Equal(t, []string{testTenant}, st["overdue_tenants"])
			w.b.pages.Request()
		})
	})
	t.Run("cancelled each day", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWitness(newMount(t))
			defer w.close()
			w.must(update, "config", map[string]any{"scheduler_jitter": 0})
			w.create()
			w.bulk(4, 3000)
			w.hourly(364 * day)
			places := w.takeAllPlaces()
			cancelled := 0
			for range 10 * 24 {
				w.hourly(time.Hour)
				if r := w.record().Rotation; r != nil && r.Phase == "sweeping" {
					w.must(update, action(r.ID, "cancel"), nil)
					cancelled++
					places()
					advance(time.Minute)
					places = w.takeAllPlaces()
				}
			}
			require.Greater(t, cancelled, 5)
			require.Equal(t, []string{testTenant}, w.must(read, "status", nil)["overdue_tenants"])
			places()
			w.hourly(2 * day)
			require.Equal(t, 0, w.must(read, "status", nil)["overdue"])
		})
	})
}

// Records and settings of the version before keep their meaning.
func TestFormerRequestsKeepTheirMeaning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		for n := range 3 {
			m.must(update, "tenants/"+tenantN(n), nil)
		}
		advance(day)
		asked := time.Now()
		advance(day)
		m.must(update, "tenants/"+tenantN(3), nil)
		m.rotateOne(tenantN(2)) // as that version did for the campaign
		m.close()
		for n := range 4 {
			m.edit("/"+tenantN(n), func(record map[string]any) {
				delete(record, "campaign")
				if n == 0 {
					record["rotate_after"], record["rotate_reason"] = asked, "suspicion"
					record["rotate_request"], record["rotate_by"] = "rotations/1", map[string]any{"id": "alice"}
				}
			})
		}
		m.disk.Set("settings", []byte(`{"rotation_interval":"90_DAYS","rotate_before":"`+asked.Format(time.RFC3339Nano)+
			`","rotate_reason":"leak","rotate_request":"rotations/2","rotate_by":{"id":"bob"}}`))
		m = openMount(t, m.disk, 0, storagetest.None)
		defer m.close()
		advance(time.Minute)
		m.tick()
		for n, want := range map[int][]string{0: {"suspicion"}, 1: {"leak"}, 2: {""}, 3: {}} {
			reasons := []string{}
			for _, r := range m.rotationsOf(tenantN(n)) {
				reasons = append(reasons, r["reason"].(string))
			}
			require.Equal(t, want, reasons, "tenant %d", n)
		}
		require.Equal(t, "bob", m.rotationsOf(tenantN(1))[0]["initiated_by"].(map[string]any)["id"])
		require.Equal(t, "90_DAYS", m.must(read, "key/rotationSettings", nil)["rotation_interval"])
		_, err := m.callAs("2", update, "rotations", map[string]any{"all": true})
		require.NoError(t, err)
		m.tick()
		require.Len(t, m.rotationsOf(tenantN(1)), 1, "it is the request that was answered before")
		require.Equal(t, 0, m.must(read, "status", nil)["overdue"])
	})
}

func (m *mount) rotateOne(tenantID string) {
	m.must(update, "tenants/"+tenantID+"/dek/rotate", nil)
	advance(time.Second)
}

// edit changes the entry on disk whose key ends so.
func (m *mount) edit(suffix string, change func(map[string]any)) {
	m.t.Helper()
	for _, key := range m.disk.Keys("tenants/") {
		if strings.HasSuffix(key, suffix) {
			record := map[string]any{}
			require.NoError(m.t, json.Unmarshal(m.disk.Value(key), &record))
			change(record)
			encoded, err := json.Marshal(record)
			require.NoError(m.t, err)
			m.disk.Set(key, encoded)
		}
	}
}
