// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// moments are those at which a rotation is held while things are done to it. Each
// leaves a walk with a rotation that stands where the model says.
var moments = []struct {
	name  string
	stand stand
	hold  func(*walk)
}{
	{"before the first page", stand{phase: "sweeping"}, func(w *walk) { w.letGo = w.holdStart() }},
	{"in the middle", stand{phase: "sweeping"}, func(w *walk) { w.letGo = w.holdMiddle() }},
	{"when every page has been moved", stand{phase: "sweeping"}, func(w *walk) { w.letGo = w.holdEnd() }},
	{"while the old key goes", stand{phase: "retiring"}, func(w *walk) { w.letGo = w.holdRetiring() }},
	{"when it has completed", stand{phase: "completed"}, func(w *walk) {
		w.request()
		advance(time.Second)
		w.letGo = w.takePlace()
	}},
	{"when it has failed", stand{phase: "failed"}, func(w *walk) {
		w.harm()
		w.request()
		advance(time.Second)
		w.letGo = w.takePlace()
	}},
}

// TestEveryPairOfActions does each action after each other, twice each, at every
// moment, and compares with what the contract says; then lets the rotation go, and
// checks that it ends as it should and that nothing is lost.
func TestEveryPairOfActions(t *testing.T) {
	total := 0
	for _, at := range moments {
		t.Run(at.name, func(t *testing.T) {
			for i, first := range actions {
				for j, second := range actions {
					if underRace && (i+j)%5 > 0 {
						continue
					}
					total++
					ok := t.Run(first+", "+second, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							w := newWalk(t, at.stand, at.hold)
							for _, action := range []string{first, second} {
								w.step(action)
								w.step(action)
							}
							w.end()
							w.close()
						})
					})
					if !ok {
						t.FailNow()
					}
				}
			}
		})
	}
	t.Logf("%d pairs", total)
}

// TestRandomActions takes longer walks, all from CRASH_SEED.
func TestRandomActions(t *testing.T) {
	seed := seedOf(t)
	walks := 150
	if underRace {
		walks /= 10
	}
	for n := range walks {
		ok := t.Run(fmt.Sprint(n), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed+uint64(n))
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			at := moments[random.IntN(len(moments))]
			synctest.Test(t, func(t *testing.T) {
				w := newWalk(t, at.stand, at.hold)
				var taken []string
				defer func() {
					if t.Failed() {
						t.Logf("%s: %s", at.name, strings.Join(taken, ", "))
					}
				}()
				for range 8 {
					action := actions[random.IntN(len(actions))]
					taken = append(taken, action)
					w.step(action)
				}
				w.end()
				w.works()
				w.close()
			})
		})
		if !ok {
			t.FailNow()
		}
	}
}

// stand is where a rotation stands by the contract, and its tenant.
type stand struct {
	phase   string // sweeping, rolling_back, retiring, completed, rolled_back or failed
	paused  bool
	retried bool
	deleted bool // the tenant is
}

func (s *stand) ended() bool {
	return s.phase == "completed" || s.phase == "rolled_back" || s.phase == "failed"
}

func (s *stand) status() string {
	switch {
	case s.paused:
		return "paused"
	case s.phase == "sweeping" || s.phase == "retiring":
		return "in_progress"
	}
	return s.phase
}

// act changes the stand as an action on the rotation does, and returns the status
// of the answer.
func (s *stand) act(action string) int {
	if s.deleted {
		return 404
	}
	if action == "retry" {
		switch {
		case s.phase == "failed":
			s.phase, s.retried = "sweeping", true
			return 200
		case s.retried && !s.ended():
			return 200
		}
		return 409
	}
	if s.ended() || s.phase == "retiring" && action != "resume" {
		return 409
	}
	switch action {
	case "pause":
		s.paused = true
	case "resume":
		s.paused = false
	case "cancel":
		if s.phase == "sweeping" {
			s.phase, s.paused = "rolling_back", false
		}
	}
	return 200
}

// actions are what a walk is made of.
var actions = []string{
	"pause", "resume", "cancel", "retry", "rotate", "repeat rotate", "write", "encrypt", "delete", "restore", "restart",
}

// walk is a rotation that things are done to.
type walk struct {
	*witness
	stand   stand
	id, key string // of the latest rotation
	letGo   func() // what holds it
	repair  func() // sets right what was damaged
	writes  int
}

func newWalk(t *testing.T, at stand, hold func(*walk)) *walk {
	w := &walk{witness: filled(t, 25), stand: at, repair: func() {}}
	hold(w)
	require.Equal(t, at.status(), w.status(w.id)["status"])
	return w
}

// harm damages a page until it is repaired, or written: what is in memory of it is
// whole.
func (w *walk) harm() {
	key := w.largestPage()
	whole := w.disk.Value(key)
	w.damaged = key
	w.damage()
	damaged := w.disk.Value(key)
	w.repair = func() {
		if bytes.Equal(damaged, w.disk.Value(key)) {
			w.disk.Set(key, whole)
		}
	}
}

// step takes an action and checks the answer, and what is to be seen afterwards.
func (w *walk) step(what string) {
	w.t.Helper()
	switch what {
	case "rotate":
		w.rotateAnew()
	case "repeat rotate":
		w.repeat()
	case "write":
		w.writes++
		w.put("bulk/1", fmt.Sprint("write ", w.writes))
	case "encrypt":
		w.encrypt(fmt.Sprint("text ", len(w.outside.sealed)))
	case "delete":
		_, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": "24h"})
		require.NoError(w.t, err)
		w.stand.deleted = true
	case "restore":
		_, err := w.call(update, tenantPath("/restore"), nil)
		require.NoError(w.t, err)
		w.stand.deleted = false
	case "restart":
		w.restart()
	default:
		want := w.stand.act(what)
		resp, err := w.call(update, action(w.id, what), nil)
		require.Equal(w.t, want, code(resp, err), "%s: %v", what, err)
	}
	synctest.Wait()
	if !w.stand.deleted {
		require.Equal(w.t, w.stand.status(), w.status(w.id)["status"], "after %s", what)
	}
}

// rotateAnew asks for another rotation, which it gets if none is unfinished.
func (w *walk) rotateAnew() {
	was := w.id
	key := fmt.Sprint("key ", len(w.rotations)+1)
	resp, err := w.call(update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": key})
	switch {
	case w.stand.deleted:
		require.Equal(w.t, 404, code(resp, err))
	case !w.stand.ended():
		require.Equal(w.t, 409, code(resp, err))
		require.ErrorContains(w.t, err, was)
	default:
		require.NoError(w.t, err)
		w.ends[was] = []string{w.stand.phase}
		w.stand = stand{phase: "sweeping"}
		w.follow(resp.Data["rotation_id"].(string), key)
	}
}

// repeat sends the request that started the rotation again: it gets the rotation
// back, and nothing changes.
func (w *walk) repeat() {
	resp, err := w.call(update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": w.key})
	if w.stand.deleted {
		require.Equal(w.t, 404, code(resp, err))
		return
	}
	require.NoError(w.t, err)
	require.Equal(w.t, w.id, resp.Data["rotation_id"])
	require.Equal(w.t, w.stand.status(), resp.Data["status"])
}

// request starts the first rotation.
func (w *walk) request() {
	const key = "key 1"
	resp := w.must(update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": key})
	w.follow(resp["rotation_id"].(string), key)
	synctest.Wait()
}

func (w *walk) follow(id, key string) {
	w.id, w.key = id, key
	w.rotations = append(w.rotations, id)
}

// restart kills the engine and opens another, which is held before it moves a page.
func (w *walk) restart() {
	w.storage.Kill()
	w.letGo()
	w.close()
	m := conditions{}.engine(w.t, w.disk, 0, storagetest.None)
	w.witness = w.on(m)
	w.letGo = w.takePlace()
	m.start()
}

// end lets the rotation go, and checks how it ends.
func (w *walk) end() {
	w.t.Helper()
	if w.stand.deleted {
		w.step("restore")
	}
	w.repair()
	w.letGo()
	advance(time.Minute)
	if w.stand.paused {
		require.Equal(w.t, "paused", w.status(w.id)["status"])
		w.must(update, action(w.id, "resume"), nil)
		advance(time.Minute)
	}
	switch w.stand.phase {
	case "sweeping", "retiring":
		w.stand.phase = "completed"
	case "rolling_back":
		w.stand.phase = "rolled_back"
	}
	w.ends[w.id] = []string{w.stand.phase}
	w.readsBack()
	w.atRest()
}
