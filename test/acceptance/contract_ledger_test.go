// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// entry is what is known of an item. Its changes are numbered; every seventh
// deletes it. The one that was acknowledged last holds, or any that was tried
// after it, since a request that failed may have taken effect.
type entry struct{ acknowledged, tried int }

func deletes(n int) bool { return n%7 == 0 }

// wrong says why an item may not be as it was read: n is the change that it
// shows, or 0 if it is absent.
func (e entry) wrong(n int) string {
	if n != 0 {
		if n < e.acknowledged || n > e.tried || deletes(n) {
			return fmt.Sprintf("shows change %d, want one from %d to %d", n, e.acknowledged, e.tried)
		}
		return ""
	}
	for n := e.acknowledged; n <= e.tried; n++ {
		if deletes(n) {
			return ""
		}
	}
	return fmt.Sprintf("is gone, but no change from %d to %d deleted it", e.acknowledged, e.tried)
}

// traffic writes and reads a tenant's items while other things happen to Vault,
// and keeps account of what was acknowledged.
type traffic struct {
	s      *devstack.Stack
	tenant string
	// quiesced is even while nothing but rotations may be in the way of a request,
	// and odd while Vault or the plugin are down.
	quiesced atomic.Int64
	requests atomic.Int64

	mu      sync.Mutex
	entries map[string]entry // by name
	faults  []string
}

// newTraffic creates a tenant with so many secrets of some 200 bytes.
func newTraffic(t *testing.T, s *devstack.Stack, items int) *traffic {
	t.Helper()
	tr := &traffic{s: s, tenant: newTenant(t, s), entries: map[string]entry{}}
	for first := 0; first < items; first += 10_000 {
		var list []map[string]any
		for i := first; i < min(first+10_000, items); i++ {
			list = append(list, map[string]any{"kind": "secrets", "name": itemName(i), "data": change(1)})
			tr.entries[itemName(i)] = entry{1, 1}
		}
		for _, r := range results(t, callRoot(t, s, http.MethodPut, tenantPath(tr.tenant, "items"), map[string]any{"items": list})) {
			require.Equal(t, 1.0, r["revision"])
		}
	}
	return tr
}

func itemName(i int) string { return fmt.Sprintf("group-%d/item-%d", i%100, i) }

func change(n int) map[string]any { return map[string]any{"n": n, "filling": text(170)} }

// run starts writers, each with items of its own, and readers. They end with
// the test, or when the returned function is called.
func (tr *traffic) run(t *testing.T, writers, readers, hot int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			client := tr.s.Client()
			for i := w; ctx.Err() == nil; i = (i + writers) % hot {
				tr.write(ctx, client, itemName(i))
			}
		})
	}
	for range readers {
		all.Go(func() {
			client := tr.s.Client()
			for ctx.Err() == nil {
				tr.read(ctx, client, itemName(rand.IntN(2*hot)))
			}
		})
	}
	stop = func() { cancel(); all.Wait() }
	t.Cleanup(stop)
	return stop
}

func (tr *traffic) look(name string) entry {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.entries[name]
}

func (tr *traffic) set(name string, e entry) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.entries[name] = e
}

func (tr *traffic) fault(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.faults = append(tr.faults, fmt.Sprintf(format, args...))
}

// excused reports whether a request may have failed because of a crash; while
// nothing is down, none may fail, whatever rotates.
func (tr *traffic) excused(ctx context.Context, begun int64, what string, err error) {
	if now := tr.quiesced.Load(); begun == now && now%2 == 0 {
		tr.fault("%s failed while nothing was down: %v", what, err)
	}
	select { // do not storm a Vault that is not there
	case <-ctx.Done():
	case <-time.After(5 * time.Millisecond):
	}
}

// write makes the next change of an item that only this goroutine changes.
func (tr *traffic) write(ctx context.Context, client *api.Client, name string) {
	e := tr.look(name)
	e.tried++
	tr.set(name, e)
	tr.requests.Add(1)
	begun := tr.quiesced.Load()
	path := tenantPath(tr.tenant, "secrets", name)
	var err error
	if deletes(e.tried) {
		_, err = client.Logical().DeleteWithContext(context.WithoutCancel(ctx), path)
		var refused *api.ResponseError
		if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
			err = nil // an earlier delete that failed had taken effect
		}
	} else {
		_, err = client.Logical().WriteWithContext(context.WithoutCancel(ctx), path, map[string]any{"data": change(e.tried)})
	}
	if err != nil {
		tr.excused(ctx, begun, "a write", err)
		return
	}
	e.acknowledged = e.tried
	tr.set(name, e)
}

// read compares an item with what is known of it, and returns whether it is there.
func (tr *traffic) read(ctx context.Context, client *api.Client, name string) (present bool) {
	before, begun := tr.look(name), tr.quiesced.Load()
	tr.requests.Add(1)
	secret, err := client.Logical().ReadWithContext(context.WithoutCancel(ctx), tenantPath(tr.tenant, "secrets", name))
	if err != nil {
		tr.excused(ctx, begun, "a read", err)
		return false
	}
	shown := 0
	if secret != nil {
		data, _ := secret.Data["data"].(map[string]any)
		n, _ := data["n"].(json.Number)
		value, err := n.Int64()
		if err != nil || data["filling"] != text(170) {
			tr.fault("%s is not what was written", name)
		}
		shown = int(value)
	}
	known := entry{before.acknowledged, tr.look(name).tried}
	if wrong := known.wrong(shown); wrong != "" {
		tr.fault("%s %s", name, wrong)
	}
	return secret != nil
}

// noFaults fails the test with the first faults that were seen.
func (tr *traffic) noFaults(t *testing.T) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	assert.Empty(t, tr.faults[:min(len(tr.faults), 5)], "%d faults", len(tr.faults))
}

// settle compares everything with what is known, after the traffic has stopped:
// the list, which opens every page, with all names; values of all items that
// have changed and of each fourth of the rest, which is dozens of every page;
// then the counts, and the pages of each version.
func (tr *traffic) settle(t *testing.T) {
	t.Helper()
	listed := map[string]bool{}
	for _, name := range keys(t, callRoot(t, tr.s, "LIST", tenantPath(tr.tenant, "secrets"), nil)) {
		if _, known := tr.entries[name]; !known {
			tr.fault("%s is listed, but nobody wrote it", name)
		}
		listed[name] = true
	}
	var readers errgroup.Group
	readers.SetLimit(8)
	client := tr.s.Client()
	cold := 0
	for name, e := range tr.entries {
		if !listed[name] && e.wrong(0) != "" {
			tr.fault("%s %s", name, e.wrong(0))
		}
		if e.tried == 1 {
			cold++
		}
		if e.tried > 1 || cold%4 == 0 {
			readers.Go(func() error {
				if tr.read(t.Context(), client, name) != listed[name] {
					tr.fault("%s is listed or it can be read, not both", name)
				}
				return nil
			})
		}
	}
	require.NoError(t, readers.Wait())
	tr.noFaults(t)
	tenant := succeeded(t, callRoot(t, tr.s, http.MethodGet, tenantPath(tr.tenant), nil))
	assert.Equal(t, counts(0, 0, float64(len(listed))), tenant["item_counts"])

	dek := readDEK(t, tr.s, tr.tenant)
	for _, v := range versions(t, dek) {
		if v["version"] == dek["current_version"] {
			assert.Equal(t, "active", v["state"])
			assert.Positive(t, v["pages"])
			continue
		}
		assert.Equal(t, []any{"destroyed", 0.0}, []any{v["state"], v["pages"]}, "version %v", v["version"])
	}
	emptyList(t, callRoot(t, tr.s, "LIST", "dek/rotations", nil))
}
