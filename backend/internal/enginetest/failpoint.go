// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// RotateAndHold starts a rotation and holds its sweep where it has listed the
// pages and waits for a place in the pool, of which there is one.
func RotateAndHold(m *Mount) (rotation string, release func()) {
	<-m.Engine.Pages.Request()
	rotation = m.Must(Update, TenantPath("/dek/rotate"), nil)["rotation_id"].(string)
	synctest.Wait()
	return rotation, m.Engine.Pages.Release
}

// OnPage calls f before operations of that name on pages.
func (m *Mount) OnPage(name string, f func()) {
	m.Storage.Hook(func(op, key string) {
		if op == name && strings.HasPrefix(key, "pages/") {
			f()
		}
	})
}

// Filled is a mount with a tenant of n items of 3 KB.
func Filled(t *testing.T, n int) *Oracle {
	t.Helper()
	m := NewMount(t)
	Slowly(m)
	w := NewOracle(m)
	w.Create()
	w.Bulk(n, 3000)
	return w
}

// stop returns a hook that stops the first operation of that name on pages:
// reached is closed when it has come there, and goOn lets it go on.
func stop(name string) (hook func(op, key string), reached chan struct{}, goOn func()) {
	reached, on := make(chan struct{}), make(chan struct{})
	var came atomic.Bool
	hook = func(op, key string) {
		if op == name && strings.HasPrefix(key, "pages/") && came.CompareAndSwap(false, true) {
			close(reached)
			<-on
		}
	}
	return hook, reached, func() { close(on) }
}

// StopBefore stops the next operation of that name on pages before it is made.
func (m *Mount) StopBefore(name string) (reached chan struct{}, goOn func()) {
	hook, reached, goOn := stop(name)
	m.Storage.Hook(hook)
	return reached, goOn
}

// StopAfter stops the next operation of that name on pages after it is made, when its
// outcome is settled but not known.
func (m *Mount) StopAfter(name string) (reached chan struct{}, goOn func()) {
	hook, reached, goOn := stop(name)
	m.Storage.Done(hook)
	return reached, goOn
}

// Answered is what a request that runs beside the test came to.
type Answered struct {
	Resp *logical.Response
	Err  error
}

// Concurrently makes a request beside the test, which gets its answer from the channel.
func (m *Mount) Concurrently(op logical.Operation, path string, data map[string]any) chan Answered {
	c := make(chan Answered, 1)
	go func() {
		resp, err := m.Call(op, path, data)
		c <- Answered{resp, err}
	}()
	return c
}

// DropPages lets the engine drop its directory, as a failed write of any page does,
// or a change by another node.
func (m *Mount) DropPages() {
	m.T.Helper()
	keys := m.Disk.Keys("keys/") // keys/<incarnation>/<key_id>
	require.NotEmpty(m.T, keys)
	m.Engine.InvalidateKey(context.Background(), "pages/"+strings.Split(keys[0], "/")[1]+"/p")
}

// Value reads an item back.
func (m *Mount) Value(item string) string {
	m.T.Helper()
	return m.Must(Read, ItemPath(item), nil)["data"].(map[string]any)["value"].(string)
}

// SmallTenant has one page, nearly full.
func SmallTenant(t *testing.T) *Oracle {
	t.Helper()
	m := NewMount(t)
	Slowly(m)
	w := NewOracle(m)
	w.Create()
	w.Bulk(8, 3000)
	return w
}

// Quiesce waits until nothing runs in the background, whose use of storage would be
// taken for a request's.
func (m *Mount) Quiesce() {
	for m.busy() {
		runtime.Gosched()
	}
}

func (m *Mount) busy() bool {
	return !m.Engine.Jobs.Idle()
}

// Quiet waits until done, or until storage has not been used for a while: then
// what runs waits for a lock that the stopped request holds. What only asks again
// and again whether a rotation is over is not waited for.
func (w *Oracle) Quiet(done <-chan struct{}) {
	const pause, enough = 3 * time.Millisecond, 100 * time.Millisecond
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	deadline := time.After(enough)
	last := -1
	for {
		select {
		case <-done:
			return
		case <-deadline:
			return
		case <-ticker.C:
			if ops := w.Storage.Ops(); ops == last {
				return
			} else {
				last = ops
			}
		}
	}
}

// UntilOver waits until no rotation is unfinished, and whoever ended one has deleted
// its intent, which comes last.
func (w *Oracle) UntilOver() {
	require.Eventually(w.T, func() bool {
		resp, err := w.Call(List, "rotations", nil)
		return err == nil && resp.Data["keys"] == nil && !w.busy()
	}, 30*time.Second, time.Millisecond)
}
