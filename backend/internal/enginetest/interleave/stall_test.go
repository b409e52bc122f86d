// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
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
	{"a write", enginetest.Update, enginetest.ItemPath("bulk/1"), enginetest.Secret("stalled"), "bulk/1", []string{"stalled"}},
	{"a write that splits", enginetest.Update, enginetest.ItemPath("split"), enginetest.Secret(enginetest.Filler("split", 20_000)), "split", []string{enginetest.Filler("split", 20_000)}},
	{"a delete", enginetest.Delete, enginetest.ItemPath("bulk/2"), nil, "bulk/2", []string{enginetest.Absent}},
	{"a read", enginetest.Read, enginetest.ItemPath("bulk/3"), nil, "bulk/3", nil},
	{"a list", enginetest.List, enginetest.TenantPath("/secrets"), nil, "", nil},
	{"a count", enginetest.Read, enginetest.TenantPath("/dek"), nil, "", nil},
	{"a rotate", enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil, "", nil},
}

// meanwhile is what happens while one is stopped.
var meanwhile = []struct {
	name string
	act  func(*enginetest.Oracle)
}{
	{"a rotation", func(w *enginetest.Oracle) { rotateToTheEnd(w) }},
	{"two rotations", func(w *enginetest.Oracle) { rotateToTheEnd(w); rotateToTheEnd(w) }},
	{"a cancelled rotation", func(w *enginetest.Oracle) {
		w.Rotate()
		w.Act("cancel", "rolled_back", "completed")
		w.UntilOver()
	}},
	{"a split", func(w *enginetest.Oracle) {
		for i := range 6 {
			w.Put(fmt.Sprintf("more/%d", i), enginetest.Filler("more", 9000))
		}
	}},
	{"a split and a rotation", func(w *enginetest.Oracle) {
		w.Put("more/1", enginetest.Filler("more", 30_000))
		rotateToTheEnd(w)
		w.Put("more/2", enginetest.Filler("more", 30_000))
	}},
}

// stride leaves out two of three operations under the race detector, as sample does of
// crash points.
func stride() int {
	if enginetest.UnderRace {
		return 3
	}
	return 1
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
				for k := 1; ; k += stride() {
					w := enginetest.SmallTenant(t)
					stopped := stall(w, k, a.op, a.path, a.data, a.item, a.values, b.act)
					settle(w)
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

// stall has a request stopped before its kth storage operation while act runs;
// false if it makes fewer.
func stall(w *enginetest.Oracle, k int, op logical.Operation, path string, data map[string]any, item string, values []string,
	act func(*enginetest.Oracle),
) (stopped bool) {
	w.T.Helper()
	if item != "" {
		for _, v := range values {
			w.Begin(item, v)
		}
	}
	got, stopped := stopAt(w, k, op, path, data, act)
	if !stopped {
		require.NoError(w.T, got.Err)
	} else if got.Err == nil && item != "" && len(values) > 0 && !touches(w, item) {
		w.Allowed[item] = values
	}
	return stopped
}

// stopAt has a request stopped before its kth storage operation while act runs as
// far as locks allow; stopped is false if it makes fewer.
func stopAt(w *enginetest.Oracle, k int, op logical.Operation, path string, data map[string]any, act func(*enginetest.Oracle)) (got enginetest.Answered, stopped bool) {
	w.T.Helper()
	w.Quiesce()
	reached, goOn := stopKth(w.Mount, k)
	answer := w.Concurrently(op, path, data)
	select {
	case got = <-answer:
		w.Storage.Hook(nil)
		goOn() // for what the request has left running
		return got, false
	case <-reached:
	}
	_, wait := meantime(w, act)
	goOn()
	got = <-answer
	wait()
	return got, true
}

// touches reports whether what went on meanwhile wrote the item, too.
func touches(w *enginetest.Oracle, item string) bool { return len(item) > 5 && item[:5] == "more/" }

func rotateToTheEnd(w *enginetest.Oracle) {
	w.Rotate()
	w.UntilOver()
}

// settle checks the engine that went through it, and a fresh one.
func settle(w *enginetest.Oracle) {
	w.T.Helper()
	w.UntilOver()
	w.ReadsBack()
	w.AtRest()
	fresh := w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
	defer fresh.Close()
	fresh.ReadsBack()
}
