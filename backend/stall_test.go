// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// stalled are requests that are stopped before each of their storage operations
// in turn. What they write is allowed to be there or not until they return.
var stalled = []struct {
	name   string
	op     logical.Operation
	path   string
	data   map[string]any
	item   string
	values []string // of the item, once the request is answered
}{
	{"a write", update, itemPath("bulk/1"), secret("stalled"), "bulk/1", []string{"stalled"}},
	{"a write that splits", update, itemPath("split"), secret(filler("split", 20_000)), "split", []string{filler("split", 20_000)}},
	{"a delete", del, itemPath("bulk/2"), nil, "bulk/2", []string{absent}},
	{"a read", read, itemPath("bulk/3"), nil, "bulk/3", nil},
	{"a list", list, tenantPath("/secrets"), nil, "", nil},
	{"a count", read, tenantPath("/dek"), nil, "", nil},
	{"a rotate", update, tenantPath("/dek/rotate"), nil, "", nil},
}

// meanwhile is what happens while one is stopped.
var meanwhile = []struct {
	name string
	act  func(*witness)
}{
	{"a rotation", func(w *witness) { w.rotateToTheEnd() }},
	{"two rotations", func(w *witness) { w.rotateToTheEnd(); w.rotateToTheEnd() }},
	{"a cancelled rotation", func(w *witness) {
		w.rotate()
		w.act("cancel", "rolled_back", "completed")
		w.untilOver()
	}},
	{"a split", func(w *witness) {
		for i := range 6 {
			w.put(fmt.Sprintf("more/%d", i), filler("more", 9000))
		}
	}},
	{"a split and a rotation", func(w *witness) {
		w.put("more/1", filler("more", 30_000))
		w.rotateToTheEnd()
		w.put("more/2", filler("more", 30_000))
	}},
}

// TestStalledRequests stops a request before each storage operation that it
// makes, lets other requests and rotations run as far as locks allow, and then
// lets it go on. Nothing acknowledged may be lost, no key go too early, and every
// rotation has to end.
func TestStalledRequests(t *testing.T) {
	total := 0
	for _, a := range stalled {
		for _, b := range meanwhile {
			t.Run(a.name+" beside "+b.name, func(t *testing.T) {
				for k := 1; ; k++ {
					w := smallTenant(t)
					stopped := w.stall(k, a.op, a.path, a.data, a.item, a.values, b.act)
					w.settle()
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

// smallTenant has one page, nearly full.
func smallTenant(t *testing.T) *witness {
	t.Helper()
	m := newMount(t)
	slowly(m)
	w := newWitness(m)
	w.create()
	w.bulk(8, 3000)
	return w
}

// stall has a request stopped before its kth storage operation while act runs;
// false if it makes fewer.
func (w *witness) stall(k int, op logical.Operation, path string, data map[string]any, item string, values []string,
	act func(*witness),
) (stopped bool) {
	w.t.Helper()
	if item != "" {
		for _, v := range values {
			w.begin(item, v)
		}
	}
	got, stopped := w.stopAt(k, op, path, data, act)
	if !stopped {
		require.NoError(w.t, got.err)
	} else if got.err == nil && item != "" && len(values) > 0 && !w.touches(item) {
		w.allowed[item] = values
	}
	return stopped
}

// stopAt has a request stopped before its kth storage operation while act runs as
// far as locks allow; stopped is false if it makes fewer.
func (w *witness) stopAt(k int, op logical.Operation, path string, data map[string]any, act func(*witness)) (got answered, stopped bool) {
	w.t.Helper()
	w.calm()
	reached, goOn := w.stopKth(k)
	answer := w.beside(op, path, data)
	select {
	case got = <-answer:
		w.storage.Hook(nil)
		goOn() // for what the request has left running
		return got, false
	case <-reached:
	}
	_, wait := w.meantime(act)
	goOn()
	got = <-answer
	wait()
	return got, true
}

// calm waits until nothing runs in the background, whose use of storage would be
// taken for a request's.
func (m *mount) calm() {
	for m.busy() {
		runtime.Gosched()
	}
}

func (m *mount) busy() bool {
	return !m.b.Jobs.Idle()
}

// touches reports whether what went on meanwhile wrote the item, too.
func (w *witness) touches(item string) bool { return len(item) > 5 && item[:5] == "more/" }

// quiet waits until done, or until storage has not been used for a while: then
// what runs waits for a lock that the stopped request holds. What only asks again
// and again whether a rotation is over is not waited for.
func (w *witness) quiet(done <-chan struct{}) {
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
			if ops := w.storage.Ops(); ops == last {
				return
			} else {
				last = ops
			}
		}
	}
}

func (w *witness) rotateToTheEnd() {
	w.rotate()
	w.untilOver()
}

// untilOver waits until no rotation is unfinished, and whoever ended one has deleted
// its intent, which comes last.
func (w *witness) untilOver() {
	require.Eventually(w.t, func() bool {
		resp, err := w.call(list, "rotations", nil)
		return err == nil && resp.Data["keys"] == nil && !w.busy()
	}, 30*time.Second, time.Millisecond)
}

// settle checks the engine that went through it, and a fresh one.
func (w *witness) settle() {
	w.t.Helper()
	w.untilOver()
	w.readsBack()
	w.atRest()
	fresh := w.on(openMount(w.t, w.disk, 0, storagetest.None))
	defer fresh.close()
	fresh.readsBack()
}
