// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// write makes a request that changes settings: nothing is noted of it.
func write(w *enginetest.Oracle, path string, data map[string]any) {
	w.Do(logical.UpdateOperation, path, data, func(*enginetest.Oracle, *logical.Response) {})
}

func ask(w *enginetest.Oracle, data map[string]any, acknowledged *bool) {
	enginetest.Advance(time.Minute)
	data["reason"] = enginetest.ReasonAsked
	w.Do(logical.UpdateOperation, "rotations", data, func(*enginetest.Oracle, *logical.Response) { *acknowledged = true })
	synctest.Wait()
	w.Tick()
}

// scheduleScenarios are those in which the schedule acts, or its index changes.
func scheduleScenarios(asked *bool) []scenario {
	quarterly := func(w *enginetest.Oracle) {
		w.Create()
		w.Put("a", "1")
		w.Must(logical.UpdateOperation, "config", map[string]any{"scheduler_jitter": 0})
		w.Must(logical.UpdateOperation, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	}
	return []scenario{
		{
			name:   "change intervals, pause and go on",
			before: quarterly,
			act: func(w *enginetest.Oracle) {
				write(w, enginetest.TenantPath(""), map[string]any{"rotation_interval": "180_DAYS"})
				write(w, enginetest.TenantPath(""), map[string]any{"rotation_paused": true})
				enginetest.Advance(100 * enginetest.Day)
				w.Tick()
				write(w, "key/rotationSettings", map[string]any{"rotation_interval": "120_DAYS"})
				write(w, enginetest.TenantPath(""), map[string]any{"rotation_paused": false})
				write(w, enginetest.TenantPath(""), map[string]any{"rotation_interval": ""})
				enginetest.Advance(21 * enginetest.Day)
				w.Tick()
			},
		},
		{
			name: "fail, back off, and try again",
			before: func(w *enginetest.Oracle) {
				quarterly(w)
				w.Damage()
			},
			act: func(w *enginetest.Oracle) {
				enginetest.Advance(91 * enginetest.Day)
				w.Tick()
				enginetest.Advance(enginetest.Day)
				w.Tick()
				w.Damage() // and it is repaired
				enginetest.Advance(3 * enginetest.Day)
				w.Tick()
			},
		},
		{
			name:   "rotate everyone",
			before: quarterly,
			act:    func(w *enginetest.Oracle) { ask(w, map[string]any{"all": true}, asked) },
		},
		{
			name:   "rotate those named, one of them paused since",
			before: quarterly,
			act: func(w *enginetest.Oracle) {
				ask(w, map[string]any{"tenants": []any{enginetest.TenantID}}, asked)
				write(w, enginetest.TenantPath(""), map[string]any{"rotation_paused": true})
				write(w, enginetest.TenantPath(""), map[string]any{"rotation_paused": false})
			},
		},
		{
			name: "rotate everyone, cancel, delete and restore",
			before: func(w *enginetest.Oracle) {
				quarterly(w)
				w.Bulk(4, 3000)
			},
			act: func(w *enginetest.Oracle) {
				w.MidSweepOf(func() { ask(w, map[string]any{"all": true}, asked) }, func() {
					if r := w.Record().Rotation; r != nil {
						write(w, enginetest.TenantPath("/dek/rotations/"+r.ID+"/cancel"), nil)
					}
				})
				w.DeleteTenant("720h")
				enginetest.Advance(time.Hour)
				w.Tick()
				w.Restore()
				enginetest.Advance(enginetest.Day)
				w.Tick()
			},
		},
		{
			name:   "delete by the schedule, and create again",
			before: (*enginetest.Oracle).Create,
			act: func(w *enginetest.Oracle) {
				w.Created = false // whether or not the answer arrives
				w.Do(logical.DeleteOperation, enginetest.TenantPath(""), map[string]any{"deletion_window": "1h"},
					func(*enginetest.Oracle, *logical.Response) {})
				enginetest.Advance(2 * time.Hour)
				w.Tick()
				w.Tick()
				w.Create()
			},
		},
	}
}

// TestEveryCrashPointOfTheSchedule is TestEveryCrashPoint for what the schedule
// does. Besides, an acknowledged request for rotations is served once.
func TestEveryCrashPointOfTheSchedule(t *testing.T) {
	var asked bool
	seed := enginetest.SeedOf(t)
	points := 0
	for _, sc := range scheduleScenarios(&asked) {
		t.Run(sc.name, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			prepared, ops := rehearse(t, sc.before, sc.act)
			for _, p := range sample(telling(ops)) {
				points++
				ok := t.Run(p.String(), func(t *testing.T) {
					asked = false
					cryptotest.SetGlobalRandom(t, seed+fresh)
					synctest.Test(t, func(t *testing.T) {
						var known *enginetest.Oracle
						crashAt(t, func() *enginetest.Oracle { known = prepared(); return known }, sc.act, p)
						known.T = t
						served := servedForAsking(known)
						if asked && served == 0 {
							require.True(t, owesOrWasRotated(known), "an acknowledged request was forgotten")
						}
						// Sent again under a new ID, it is another request.
						require.LessOrEqual(t, served, 2)
					})
				})
				if !ok {
					t.Logf("the operation is %s", ops[p.first.n-1])
					return
				}
			}
		})
	}
	if !t.Failed() {
		t.Logf("%d crash points of the schedule, no violation (CRASH_SEED=%d)", points, seed)
	}
}

// digits tell one day from another, and one part.
var digits = regexp.MustCompile(`[0-9a-f]+`)

// telling are all faults of all operations, but few of those that repeat: an
// engine that comes across a hundred empty days does the same for each.
func telling(ops []string) (points []point) {
	const enough = 4
	seen := map[string]int{}
	for _, p := range singleFaults(ops) {
		like := digits.ReplaceAllString(ops[p.first.n-1], "*") + p.first.fault.String()
		repeats := strings.HasPrefix(like, "list ") || strings.HasPrefix(like, "put schedule/floors")
		if seen[like]++; seen[like] <= enough || !repeats {
			points = append(points, p)
		}
	}
	return points
}

// owesOrWasRotated reports whether the tenant on disk owes a rotation that was asked for,
// or has had one since for another reason.
func owesOrWasRotated(w *enginetest.Oracle) bool {
	w.T.Helper()
	var s settings.Rotation
	require.NoError(w.T, json.Unmarshal(w.Disk.Value("settings"), &s))
	last := w.Record().Last
	since := last != nil && last.Phase == tenant.Completed && last.Campaign > 0 && last.Campaign >= s.Campaign.Number
	return w.Record().Owes(s).Any() || since
}

// servedForAsking is how many rotations on disk were asked for and have completed.
func servedForAsking(w *enginetest.Oracle) (n int) {
	w.T.Helper()
	ended := map[string]tenant.Rotation{}
	if last := w.Record().Last; last != nil {
		ended[last.ID] = *last
	}
	for _, key := range w.Disk.Keys("history/") {
		var r tenant.Rotation
		require.NoError(w.T, json.Unmarshal(w.Disk.Value(key), &r), fmt.Sprintf("history entry %s", key))
		ended[r.ID] = r
	}
	for _, r := range ended {
		if r.Reason == enginetest.ReasonAsked && r.Phase == tenant.Completed {
			n++
		}
	}
	return n
}
