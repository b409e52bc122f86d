// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// reasonAsked is of the rotations that the scenarios of the schedule ask for.
const reasonAsked = "asked for"

// write makes a request that changes settings: nothing is noted of it.
func (w *witness) write(path string, data map[string]any) {
	w.do(logical.UpdateOperation, path, data, func(*witness, *logical.Response) {})
}

func (w *witness) ask(data map[string]any, acknowledged *bool) {
	advance(time.Minute)
	data["reason"] = reasonAsked
	w.do(logical.UpdateOperation, "rotations", data, func(*witness, *logical.Response) { *acknowledged = true })
	synctest.Wait()
	w.tick()
}

// scheduleScenarios are those in which the schedule acts, or its index changes.
func scheduleScenarios(asked *bool) []scenario {
	quarterly := func(w *witness) {
		w.create()
		w.put("a", "1")
		w.must(logical.UpdateOperation, "config", map[string]any{"scheduler_jitter": 0})
		w.must(logical.UpdateOperation, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	}
	return []scenario{
		{
			name:   "change intervals, pause and go on",
			before: quarterly,
			act: func(w *witness) {
				w.write(tenantPath(""), map[string]any{"rotation_interval": "180_DAYS"})
				w.write(tenantPath(""), map[string]any{"rotation_paused": true})
				advance(100 * day)
				w.tick()
				w.write("key/rotationSettings", map[string]any{"rotation_interval": "120_DAYS"})
				w.write(tenantPath(""), map[string]any{"rotation_paused": false})
				w.write(tenantPath(""), map[string]any{"rotation_interval": ""})
				advance(21 * day)
				w.tick()
			},
		},
		{
			name: "fail, back off, and try again",
			before: func(w *witness) {
				quarterly(w)
				w.damage()
			},
			act: func(w *witness) {
				advance(91 * day)
				w.tick()
				advance(day)
				w.tick()
				w.damage() // and it is repaired
				advance(3 * day)
				w.tick()
			},
		},
		{
			name:   "rotate everyone",
			before: quarterly,
			act:    func(w *witness) { w.ask(map[string]any{"all": true}, asked) },
		},
		{
			name:   "rotate those named, one of them paused since",
			before: quarterly,
			act: func(w *witness) {
				w.ask(map[string]any{"tenants": []any{testTenant}}, asked)
				w.write(tenantPath(""), map[string]any{"rotation_paused": true})
				w.write(tenantPath(""), map[string]any{"rotation_paused": false})
			},
		},
		{
			name:   "delete by the schedule, and create again",
			before: (*witness).create,
			act: func(w *witness) {
				w.created = false // whether or not the answer arrives
				w.do(logical.DeleteOperation, tenantPath(""), map[string]any{"deletion_window": "1h"},
					func(*witness, *logical.Response) {})
				advance(2 * time.Hour)
				w.tick()
				w.tick()
				w.create()
			},
		},
	}
}

// TestEveryCrashPointOfTheSchedule is TestEveryCrashPoint for what the schedule
// does. Besides, an acknowledged request for rotations is served once.
func TestEveryCrashPointOfTheSchedule(t *testing.T) {
	var asked bool
	seed := seedOf(t)
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
						var known *witness
						crashAt(t, func() *witness { known = prepared(); return known }, sc.act, p)
						known.t = t
						served := known.servedForAsking()
						if asked {
							require.NotZero(t, served, "an acknowledged request was forgotten")
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

// servedForAsking is how many rotations on disk were asked for.
func (w *witness) servedForAsking() (n int) {
	w.t.Helper()
	for _, key := range w.disk.Keys("history/") {
		var r tenant.Rotation
		require.NoError(w.t, json.Unmarshal(w.disk.Value(key), &r), fmt.Sprintf("history entry %s", key))
		if r.Reason == reasonAsked {
			n++
		}
	}
	return n
}
