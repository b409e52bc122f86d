// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// stalledBesideKEK are requests that make, use or destroy keys, stopped before
// each of their storage operations in turn, of an engine that has nothing in memory.
var stalledBesideKEK = []struct {
	name   string
	op     logical.Operation
	path   string
	data   map[string]any
	before func(*enginetest.Oracle)
	status []int
}{
	{name: "a creation", op: enginetest.Update, path: "tenants/" + enginetest.TenantN(5)},
	{name: "a rotation", op: enginetest.Update, path: enginetest.TenantPath("/dek/rotate")},
	{name: "a first encrypt", op: enginetest.Update, path: enginetest.TenantPath("/encrypt"), data: map[string]any{"plaintext": enginetest.Encoded("stalled")}},
	{
		name: "an encrypt", op: enginetest.Update, path: enginetest.TenantPath("/encrypt"), data: map[string]any{"plaintext": enginetest.Encoded("stalled")},
		before: func(w *enginetest.Oracle) { w.Encrypt("before") },
	},
	{name: "a read", op: enginetest.Read, path: enginetest.ItemPath("bulk/1")},
	{
		name: "a write", op: enginetest.Update, path: enginetest.ItemPath("stalled"), data: enginetest.Secret("stalled"),
		before: func(w *enginetest.Oracle) { w.Allowed["stalled"] = []string{"stalled"} },
	},
	{
		name: "a destroy", op: enginetest.Update, path: enginetest.TenantPath("/dek/versions/1/destroy"), data: map[string]any{"force": true},
		before: func(w *enginetest.Oracle) {
			w.Encrypt("before")
			rotateToTheEnd(w)
			w.External.Mark(1, true)
		},
	},
	{name: "a deletion", op: enginetest.Delete, path: "tenants/" + enginetest.TenantN(2), data: map[string]any{"deletion_window": 0}},
	{name: "a rotation of the KEK", op: enginetest.Update, path: "kek/rotate", status: []int{200, 409}},
	{name: "a look at the KEK", op: enginetest.Read, path: "kek"},
}

// TestStalledBesideKEK lets the KEK rotate, and then rotate again, as far as locks
// allow while a request is stopped. Whatever order that gives: every key of every
// tenant opens afterwards, and none is on a KEK that is gone.
func TestStalledBesideKEK(t *testing.T) {
	total := 0
	for _, a := range stalledBesideKEK {
		for _, rotations := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s beside %d", a.name, rotations), func(t *testing.T) {
				for k := 1; ; k += stride() {
					w := enginetest.SmallTenant(t)
					enginetest.OtherTenants(w)
					if a.before != nil {
						a.before(w)
					}
					w.Close()
					w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
					got, stopped := stopAt(w, k, a.op, a.path, a.data, func(w *enginetest.Oracle) {
						for range rotations {
							w.RotateKEK()
							untilKEKOver(w)
						}
					})
					if a.status == nil {
						a.status = []int{200}
					}
					require.Contains(t, a.status, enginetest.Code(got.Resp, got.Err))
					if a.name == "a destroy" {
						w.External.Gone[1] = true
					}
					untilKEKOver(w)
					w.KEKs = enginetest.KEKs{Asked: 1}
					settle(w)
					everyKeyOpens(w)
					w.Close()
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
func untilKEKOver(w *enginetest.Oracle) {
	require.Eventually(w.T, func() bool {
		resp, err := w.Call(enginetest.Read, "kek", nil)
		return err == nil && resp.Data["status"] != "in_progress"
	}, time.Minute, time.Millisecond)
}

// everyKeyOpens lets one more rotation of the KEK read them all.
func everyKeyOpens(w *enginetest.Oracle) {
	w.T.Helper()
	w.Must(enginetest.Update, "kek/rotate", nil)
	untilKEKOver(w)
	st := w.Must(enginetest.Read, "kek", nil)
	require.Equal(w.T, "completed", st["status"], "%v", st["failures"])
	w.Wrapped()
}

// A switch that was hidden by Vault's cache shows while a creation has wrapped its
// keys under the old KEK and not yet put its record. The worker that reads the new
// record in that moment must wait for the creation: no pass would find its keys.
func TestSwitchOfTheKEKShowsBesideACreation(t *testing.T) {
	w := enginetest.SmallTenant(t)
	defer w.Close()
	w.FailStale(3, "put", func(key string) bool { return key == "kek/current" })
	_, err := w.Call(enginetest.Update, "kek/rotate", nil)
	require.Error(t, err)
	w.Quiesce() // after the look at it that follows the request
	looking, look := pauseAt(w.Mount, "get", "kek/current")
	w.Engine.KEK.Drive()
	<-looking
	created := "tenants/" + enginetest.TenantN(5)
	putting, put := pauseAt(w.Mount, "put", enginetest.TenantN(5))
	answered := make(chan error, 1)
	go func() {
		_, err := w.Call(enginetest.Update, created, nil)
		answered <- err
	}()
	<-putting
	w.Storage.Hook(nil)
	w.Disk.RestartVault()
	close(look)
	w.Quiet(nil)
	close(put)
	require.NoError(t, <-answered)
	untilKEKOver(w)
	w.KEKs = enginetest.KEKs{Asked: 1}
	settle(w)
	everyKeyOpens(w)
	w.Must(enginetest.Update, created+"/secrets/a", enginetest.Secret("v"))
}

// pauseAt lets the next operation of that name on a key with that end wait until
// goOn is closed; at is closed when it does.
func pauseAt(m *enginetest.Mount, op, end string) (at, goOn chan struct{}) {
	at, goOn = make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	m.Storage.Hook(func(o, key string) {
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
	w := enginetest.SmallTenant(t)
	defer w.Close()
	w.Encrypt("old")
	rotateToTheEnd(w)
	listed, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	w.Storage.Done(func(op, key string) {
		if op == "list" && strings.HasPrefix(key, "keys/") && once.CompareAndSwap(false, true) {
			close(listed)
			<-goOn
		}
	})
	w.RotateKEK()
	<-listed
	external := func(key string) bool { return strings.HasSuffix(key, ".ext") }
	left := w.FailStale(1, "delete", external)
	answered := make(chan error, 1)
	go func() {
		_, err := w.Call(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
		answered <- err
	}()
	w.Quiet(nil)
	close(goOn)
	require.Error(t, <-answered)
	w.Storage.Hook(nil)
	w.Storage.Done(nil)
	untilKEKOver(w)
	require.Zero(t, *left)
	require.False(t, slices.ContainsFunc(w.Disk.Keys("keys/"), external), "the key is back")
	everyKeyOpens(w)
}

// Two tenants are created at once, and each finds that there is no KEK: one is made.
func TestOneFirstKEK(t *testing.T) {
	w := enginetest.NewOracle(enginetest.NewMount(t))
	defer w.Close()
	w.Quiesce()
	both := make(chan struct{})
	var looks atomic.Int64
	w.Storage.Done(func(op, key string) {
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
			_, err := w.Call(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
			answered <- err
		}()
	}
	require.NoError(t, <-answered)
	require.NoError(t, <-answered)
	require.Len(t, w.Disk.Keys("kek/keys/"), 1)
}
