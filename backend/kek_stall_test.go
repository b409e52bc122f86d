// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// stalledBesideKEK are requests that make, use or destroy keys, stopped before
// each of their storage operations in turn, of an engine that has nothing in memory.
var stalledBesideKEK = []struct {
	name   string
	op     logical.Operation
	path   string
	data   map[string]any
	before func(*witness)
	status []int
}{
	{name: "a creation", op: update, path: "tenants/" + tenantN(5)},
	{name: "a rotation", op: update, path: tenantPath("/dek/rotate")},
	{name: "a first encrypt", op: update, path: tenantPath("/encrypt"), data: map[string]any{"plaintext": encoded("stalled")}},
	{
		name: "an encrypt", op: update, path: tenantPath("/encrypt"), data: map[string]any{"plaintext": encoded("stalled")},
		before: func(w *witness) { w.encrypt("before") },
	},
	{name: "a read", op: read, path: itemPath("bulk/1")},
	{
		name: "a write", op: update, path: itemPath("stalled"), data: secret("stalled"),
		before: func(w *witness) { w.allowed["stalled"] = []string{"stalled"} },
	},
	{
		name: "a destroy", op: update, path: tenantPath("/dek/versions/1/destroy"), data: map[string]any{"force": true},
		before: func(w *witness) {
			w.encrypt("before")
			w.rotateToTheEnd()
			w.outside.mark(1, true)
		},
	},
	{name: "a deletion", op: del, path: "tenants/" + tenantN(2), data: map[string]any{"deletion_window": 0}},
	{name: "a rotation of the KEK", op: update, path: "kek/rotate", status: []int{200, 409}},
	{name: "a look at the KEK", op: read, path: "kek"},
}

// TestStalledBesideKEK lets the KEK rotate, and then rotate again, as far as locks
// allow while a request is stopped. Whatever order that gives: every key of every
// tenant opens afterwards, and none is on a KEK that is gone.
func TestStalledBesideKEK(t *testing.T) {
	total := 0
	for _, a := range stalledBesideKEK {
		for _, rotations := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s beside %d", a.name, rotations), func(t *testing.T) {
				for k := 1; ; k++ {
					w := smallTenant(t)
					beside(w)
					if a.before != nil {
						a.before(w)
					}
					w.close()
					w = w.on(openMount(t, w.disk, 0, storagetest.None))
					got, stopped := w.stopAt(k, a.op, a.path, a.data, func(w *witness) {
						for range rotations {
							w.rotateKEK()
							w.untilKEKOver()
						}
					})
					if a.status == nil {
						a.status = []int{200}
					}
					require.Contains(t, a.status, code(got.resp, got.err))
					if a.name == "a destroy" {
						w.outside.gone[1] = true
					}
					w.untilKEKOver()
					w.keks = keks{asked: 1}
					w.settle()
					w.everyKeyOpens()
					w.close()
					if !stopped {
						break
					}
					total++
				}
			})
		}
	}
	t.Logf("%d interleavings", total)
}

// untilKEKOver waits until no rotation of the KEK is unfinished.
func (w *witness) untilKEKOver() {
	require.Eventually(w.t, func() bool {
		resp, err := w.call(read, "kek", nil)
		return err == nil && resp.Data["status"] != "in_progress"
	}, 30*time.Second, time.Millisecond)
}

// everyKeyOpens lets one more rotation of the KEK read them all.
func (w *witness) everyKeyOpens() {
	w.t.Helper()
	w.must(update, "kek/rotate", nil)
	w.untilKEKOver()
	st := w.must(read, "kek", nil)
	require.Equal(w.t, "completed", st["status"], "%v", st["failures"])
	w.wrapped()
}

// A switch that was hidden by Vault's cache shows while a creation has wrapped its
// keys under the old KEK and not yet put its record. The worker that reads the new
// record in that moment must wait for the creation: no pass would find its keys.
func TestSwitchOfTheKEKShowsBesideACreation(t *testing.T) {
	w := smallTenant(t)
	defer w.close()
	w.failStale(3, "put", func(key string) bool { return key == "kek/current" })
	_, err := w.call(update, "kek/rotate", nil)
	require.Error(t, err)
	w.calm() // after the look at it that follows the request
	looking, look := w.pauseAt("get", "kek/current")
	w.b.KEK.Drive()
	<-looking
	created := "tenants/" + tenantN(5)
	putting, put := w.pauseAt("put", tenantN(5))
	answered := make(chan error, 1)
	go func() {
		_, err := w.call(update, created, nil)
		answered <- err
	}()
	<-putting
	w.storage.Hook(nil)
	w.disk.RestartVault()
	close(look)
	w.quiet(nil)
	close(put)
	require.NoError(t, <-answered)
	w.untilKEKOver()
	w.keks = keks{asked: 1}
	w.settle()
	w.everyKeyOpens()
	w.must(update, created+"/secrets/a", secret("v"))
}

// pauseAt lets the next operation of that name on a key with that end wait until
// goOn is closed; at is closed when it does.
func (m *mount) pauseAt(op, end string) (at, goOn chan struct{}) {
	at, goOn = make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	m.storage.Hook(func(o, key string) {
		if o == op && strings.HasSuffix(key, end) && !strings.HasPrefix(key, "schedule/") && once.CompareAndSwap(false, true) {
			close(at)
			<-goOn
		}
	})
	return at, goOn
}

// A key is destroyed just after a rotation of the KEK has listed it, and the
// deletion fails with effect: Get goes on showing the key. It stays destroyed.
func TestKeyDestroyedWhileTheKEKRotates(t *testing.T) {
	w := smallTenant(t)
	defer w.close()
	w.encrypt("old")
	w.rotateToTheEnd()
	listed, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	w.storage.Done(func(op, key string) {
		if op == "list" && strings.HasPrefix(key, "keys/") && once.CompareAndSwap(false, true) {
			close(listed)
			<-goOn
		}
	})
	w.rotateKEK()
	<-listed
	external := func(key string) bool { return strings.HasSuffix(key, ".ext") }
	left := w.failStale(1, "delete", external)
	answered := make(chan error, 1)
	go func() {
		_, err := w.call(update, destroyPath(1), map[string]any{"force": true})
		answered <- err
	}()
	w.quiet(nil)
	close(goOn)
	require.Error(t, <-answered)
	w.storage.Hook(nil)
	w.storage.Done(nil)
	w.untilKEKOver()
	require.Zero(t, *left)
	require.False(t, slices.ContainsFunc(w.disk.Keys("keys/"), external), "the key is back")
	w.everyKeyOpens()
}

// Two tenants are created at once, and each finds that there is no KEK: one is made.
func TestOneFirstKEK(t *testing.T) {
	w := newWitness(newMount(t))
	defer w.close()
	w.calm()
	both := make(chan struct{})
	var looks atomic.Int64
	w.storage.Done(func(op, key string) {
		if op != "get" || key != "kek/current" {
			return
		}
		if looks.Add(1) == 2 {
			close(both)
		}
		<-both
	})
	answered := make(chan error, 2)
	for n := range 2 {
		go func() {
			_, err := w.call(update, "tenants/"+tenantN(n), nil)
			answered <- err
		}()
	}
	require.NoError(t, <-answered)
	require.NoError(t, <-answered)
	require.Len(t, w.disk.Keys("kek/keys/"), 1)
}
