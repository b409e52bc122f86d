// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Absent stands for an item that does not exist.
const Absent = ""

// Oracle makes requests and keeps what may be read afterwards: what was
// acknowledged last, or, while a write is under way or has failed, that or the
// new value.
type Oracle struct {
	*Mount
	Allowed   map[string][]string // by item
	Created   bool                // the tenant's creation was acknowledged
	Rotations []string            // those acknowledged, latest last
	Ends      map[string][]string // how each may end
	Failed    *Request            // the latest that met a fault
	External  External            // what has left the engine
	KEKs      KEKs                // rotations of the KEK
	Imported  map[string][]byte   // keys whose import was acknowledged, by rotation
	Settings  map[string]any      // changes that were acknowledged, by field
	Damaged   string              // the page that damage flips a bit of
}

// Request is one that may be sent again.
type Request struct {
	ID   string
	Op   logical.Operation
	Path string
	Data map[string]any
	Ack  func(*Oracle, *logical.Response)
}

// Do sends a request and, if it is acknowledged, notes what that means.
func (w *Oracle) Do(op logical.Operation, path string, data map[string]any, ack func(*Oracle, *logical.Response)) {
	r := &Request{w.RequestID(), op, path, data, ack}
	resp, err := w.CallAs(r.ID, op, path, data)
	switch {
	case err == nil:
		ack(w, resp)
	case Code(resp, err) >= 500:
		w.Failed = r
	}
}

// Retry sends the request that met the fault once more, as Vault does after the
// plugin has crashed, with the same ID, or as a client does, with a new one.
func (w *Oracle) Retry(failed *Request, sameID bool) {
	if failed == nil {
		return
	}
	id := failed.ID
	if !sameID {
		id = "again"
	}
	if resp, err := w.CallAs(id, failed.Op, failed.Path, failed.Data); err == nil {
		failed.Ack(w, resp)
	}
}

// NewOracle returns an oracle of a mount on which nothing has been acknowledged yet.
func NewOracle(m *Mount) *Oracle {
	return &Oracle{Mount: m, Allowed: map[string][]string{}, Ends: map[string][]string{}, Imported: map[string][]byte{}}
}

// Create makes the tenant.
func (w *Oracle) Create() {
	w.Do(logical.UpdateOperation, TenantPath(""), nil, func(w *Oracle, _ *logical.Response) { w.Created = true })
}

// Begin notes that an item may have that value from now on, besides those that it may have already.
func (w *Oracle) Begin(item, value string) {
	if len(w.Allowed[item]) == 0 {
		w.Allowed[item] = []string{Absent}
	}
	w.Allowed[item] = append(w.Allowed[item], value)
}

// Put writes an item.
func (w *Oracle) Put(item, value string) {
	w.Begin(item, value)
	w.Do(logical.UpdateOperation, ItemPath(item), Secret(value), func(w *Oracle, _ *logical.Response) {
		w.Allowed[item] = []string{value}
	})
}

// Deltas writes items such that pages of some large items get deltas: first comes
// the page, since a process gives deltas only to what it has put itself.
func (w *Oracle) Deltas() {
	for i := range 4 {
		w.Put(fmt.Sprintf("bulk/%d", i), fmt.Sprintf("short %d", len(w.Allowed)))
	}
	w.Put("beside/"+strconv.Itoa(len(w.Allowed)), "an item that was not there")
	w.Put("bulk/1", "once more")
}

// Remove deletes an item.
func (w *Oracle) Remove(item string) {
	w.Begin(item, Absent)
	w.Do(logical.DeleteOperation, ItemPath(item), nil, func(w *Oracle, _ *logical.Response) {
		w.Allowed[item] = []string{Absent}
	})
}

// Bulk writes n items, bulk/0 and so on, of size bytes each, in one request.
func (w *Oracle) Bulk(n, size int) {
	var items []any
	for i := range n {
		name := fmt.Sprintf("bulk/%d", i)
		w.Begin(name, Filler(name, size))
		items = append(items, map[string]any{
			"kind": "secrets", "name": name, "data": map[string]any{"value": Filler(name, size)},
		})
	}
	w.Do(logical.UpdateOperation, TenantPath("/items"), map[string]any{"items": items}, func(w *Oracle, resp *logical.Response) {
		for i, r := range resp.Data["results"].([]map[string]any) {
			if r["error"] == nil {
				name := fmt.Sprintf("bulk/%d", i)
				w.Allowed[name] = []string{Filler(name, size)}
			}
		}
	})
}

// Rotate starts a rotation of the tenant, which may end as completed only.
func (w *Oracle) Rotate() {
	w.Do(logical.UpdateOperation, TenantPath("/dek/rotate"), nil, func(w *Oracle, resp *logical.Response) {
		id := resp.Data["rotation_id"].(string)
		w.Rotations = append(w.Rotations, id)
		w.Ends[id] = []string{"completed"}
	})
}

// Act does something to the latest rotation; how it may end then.
func (w *Oracle) Act(action string, ends ...string) {
	if len(w.Rotations) == 0 {
		return
	}
	id := w.Rotations[len(w.Rotations)-1]
	before := w.Ends[id]
	w.Ends[id] = append(slices.Clone(before), ends...)
	if _, err := w.Call(logical.UpdateOperation, TenantPath("/dek/rotations/"+id+"/"+action), nil); err == nil {
		w.Ends[id] = ends
	}
}

// DeleteTenant deletes the tenant. Without a window its items are gone.
func (w *Oracle) DeleteTenant(window string) {
	_, err := w.Call(logical.DeleteOperation, TenantPath(""), map[string]any{"deletion_window": window})
	if window != "0" {
		return
	}
	for item := range w.Allowed {
		w.Begin(item, Absent)
		if err == nil {
			w.Allowed[item] = []string{Absent}
		}
	}
	w.Created, w.Rotations = false, nil
	w.KEKs.MovesAsked, w.KEKs.Moved = 0, nil
}

// Restore brings the tenant back, if it is being deleted.
func (w *Oracle) Restore() {
	_, _ = w.Call(logical.UpdateOperation, TenantPath("/restore"), nil)
}

// Damage flips a bit of a page that has items, and flips it back when called again.
func (w *Oracle) Damage() {
	if w.Damaged == "" {
		w.Damaged = w.LargestPage()
	}
	key := w.Damaged
	page := w.Disk.Value(key)
	page[len(page)-1] ^= 1
	w.Disk.Set(key, page)
}

// LargestPage is the key of one. Which items share a page is random, so another may
// have none.
func (m *Mount) LargestPage() string {
	return slices.MaxFunc(m.PageKeys(), func(a, b string) int {
		return cmp.Compare(len(m.Disk.Value(a)), len(m.Disk.Value(b)))
	})
}

// Filler is a value of a given size that names its item.
func Filler(item string, size int) string {
	return item + "|" + strings.Repeat("x", size)
}

// Advance lets fake time pass, and with it everything that waits.
func Advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// HoldAfter takes a place in the pool with the next Put of a key with that prefix,
// and says whether it has: the place is given when what is moved there is done.
func (m *Mount) HoldAfter(prefix string) (held *atomic.Bool) {
	held = new(atomic.Bool)
	m.Storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, prefix) && held.CompareAndSwap(false, true) {
			m.Engine.Pages.Request()
		}
	})
	return held
}

// MidSweep starts a rotation and runs f while its sweep has moved some pages and
// waits for a place in the pool, without a lock. If a fault comes before, f runs
// all the same.
func (w *Oracle) MidSweep(f func()) { w.MidSweepOf(w.Rotate, f) }

// MidSweepOf is MidSweep for a rotation that start starts.
func (w *Oracle) MidSweepOf(start, f func()) {
	held := w.HoldAfter("pages/")
	start()
	synctest.Wait()
	w.Storage.Hook(nil)
	f()
	if held.Load() {
		w.Engine.Pages.Release()
	}
}

// On returns an oracle of the same acknowledgements, of another mount.
func (w *Oracle) On(m *Mount) *Oracle {
	c := NewOracle(m)
	c.Created = w.Created
	c.Rotations = slices.Clone(w.Rotations)
	c.Ends = maps.Clone(w.Ends)
	c.Imported = maps.Clone(w.Imported)
	c.Damaged = w.Damaged
	c.Settings = maps.Clone(w.Settings)
	for item, values := range w.Allowed {
		c.Allowed[item] = slices.Clone(values)
	}
	c.External = w.External.clone()
	c.KEKs = KEKs{w.KEKs.Asked, slices.Clone(w.KEKs.Acked), w.KEKs.MovesAsked, slices.Clone(w.KEKs.Moved)}
	return c
}
