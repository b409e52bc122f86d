// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// takePlace takes the only place in the pool, without which no page is moved.
func (w *walk) takePlace() (release func()) {
	pool := w.Engine.Pages
	<-pool.Request()
	return pool.Release
}

func (w *walk) holdStart() (release func()) {
	release = w.takePlace()
	w.request()
	return release
}

// holdMiddle holds the sweep between two pages.
func (w *walk) holdMiddle() (release func()) {
	held := w.HoldAfter("pages/")
	w.request()
	w.Storage.Hook(nil)
	require.True(w.T, held.Load())
	require.Len(w.T, w.PagesOnDisk(), 2, "versions that pages are on")
	return w.Engine.Pages.Release
}

// holdEnd holds the rotation when it has moved every page, at its last List but that of
// its end, without a lock.
func (w *walk) holdEnd() (release func()) {
	on := make(chan struct{})
	var looks atomic.Int64
	w.Storage.Hook(func(op, key string) {
		if op == "list" && strings.HasPrefix(key, "pages/") && len(w.PagesOnDisk()) == 1 {
			if looks.Add(1) == 2 {
				<-on
			}
		}
	})
	w.request()
	require.EqualValues(w.T, 2, looks.Load())
	require.Equal(w.T, map[int]int{2: len(w.PageKeys())}, w.PagesOnDisk())
	return func() { close(on) }
}

// holdRetiring lets the old key's deletion fail.
func (w *walk) holdRetiring() (release func()) {
	m := w.Mount
	m.Storage.Fail(enginetest.FailOn("delete", "keys/", storagetest.Before))
	w.request()
	enginetest.Advance(10 * time.Second)
	return func() { m.Storage.Fail(nil) }
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
	*enginetest.Oracle
	stand   stand
	id, key string // of the latest rotation
	letGo   func() // what holds it
	repair  func() // sets right what was damaged
	writes  int
}

func newWalk(t *testing.T, at stand, hold func(*walk)) *walk {
	w := &walk{Oracle: enginetest.Filled(t, 25), stand: at, repair: func() {}}
	hold(w)
	require.Equal(t, at.status(), w.Status(w.id)["status"])
	return w
}

// harm damages a page until it is repaired, or written: what is in memory of it is
// whole.
func (w *walk) harm() {
	key := w.LargestPage()
	whole := w.Disk.Value(key)
	w.Damaged = key
	w.Damage()
	damaged := w.Disk.Value(key)
	w.repair = func() {
		if bytes.Equal(damaged, w.Disk.Value(key)) {
			w.Disk.Set(key, whole)
		}
	}
}

// step takes an action and checks the answer, and what is to be seen afterwards.
func (w *walk) step(what string) {
	w.T.Helper()
	switch what {
	case "rotate":
		w.rotateAnew()
	case "repeat rotate":
		w.repeat()
	case "write":
		w.writes++
		w.Put("bulk/1", fmt.Sprint("write ", w.writes))
	case "encrypt":
		w.Encrypt(fmt.Sprint("text ", len(w.External.Sealed)))
	case "delete":
		_, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "24h"})
		require.NoError(w.T, err)
		w.stand.deleted = true
	case "restore":
		_, err := w.Call(enginetest.Update, enginetest.TenantPath("/restore"), nil)
		require.NoError(w.T, err)
		w.stand.deleted = false
	case "restart":
		w.restart()
	default:
		want := w.stand.act(what)
		resp, err := w.Call(enginetest.Update, enginetest.Action(w.id, what), nil)
		require.Equal(w.T, want, enginetest.Code(resp, err), "%s: %v", what, err)
	}
	synctest.Wait()
	if !w.stand.deleted {
		require.Equal(w.T, w.stand.status(), w.Status(w.id)["status"], "after %s", what)
	}
}

// rotateAnew asks for another rotation, which it gets if none is unfinished.
func (w *walk) rotateAnew() {
	was := w.id
	key := fmt.Sprint("key ", len(w.Rotations)+1)
	resp, err := w.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": key})
	switch {
	case w.stand.deleted:
		require.Equal(w.T, 404, enginetest.Code(resp, err))
	case !w.stand.ended():
		require.Equal(w.T, 409, enginetest.Code(resp, err))
		require.ErrorContains(w.T, err, was)
	default:
		require.NoError(w.T, err)
		w.Ends[was] = []string{w.stand.phase}
		w.stand = stand{phase: "sweeping"}
		w.follow(resp.Data["rotation_id"].(string), key)
	}
}

// repeat sends the request that started the rotation again: it gets the rotation
// back, and nothing changes.
func (w *walk) repeat() {
	resp, err := w.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": w.key})
	if w.stand.deleted {
		require.Equal(w.T, 404, enginetest.Code(resp, err))
		return
	}
	require.NoError(w.T, err)
	require.Equal(w.T, w.id, resp.Data["rotation_id"])
	require.Equal(w.T, w.stand.status(), resp.Data["status"])
}

// request starts the first rotation.
func (w *walk) request() {
	const key = "key 1"
	resp := w.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": key})
	w.follow(resp["rotation_id"].(string), key)
	synctest.Wait()
}

func (w *walk) follow(id, key string) {
	w.id, w.key = id, key
	w.Rotations = append(w.Rotations, id)
}

// restart kills the engine and opens another, which is held before it moves a page.
func (w *walk) restart() {
	w.Storage.Kill()
	w.letGo()
	w.Close()
	m := enginetest.Conditions{}.Open(w.T, w.Disk, 0, storagetest.None)
	w.Oracle = w.On(m)
	w.letGo = w.takePlace()
	m.Start()
}

// end lets the rotation go, and checks how it ends.
func (w *walk) end() {
	w.T.Helper()
	if w.stand.deleted {
		w.step("restore")
	}
	w.repair()
	w.letGo()
	enginetest.Advance(time.Minute)
	if w.stand.paused {
		require.Equal(w.T, "paused", w.Status(w.id)["status"])
		w.Must(enginetest.Update, enginetest.Action(w.id, "resume"), nil)
		enginetest.Advance(time.Minute)
	}
	switch w.stand.phase {
	case "sweeping", "retiring":
		w.stand.phase = "completed"
	case "rolling_back":
		w.stand.phase = "rolled_back"
	}
	w.Ends[w.id] = []string{w.stand.phase}
	w.ReadsBack()
	w.AtRest()
}
