// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

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

// absent stands for an item that does not exist.
const absent = ""

// witness makes requests and keeps what may be read afterwards: what was
// acknowledged last, or, while a write is under way or has failed, that or the
// new value.
type witness struct {
	*mount
	allowed   map[string][]string // by item
	created   bool                // the tenant's creation was acknowledged
	rotations []string            // those acknowledged, latest last
	ends      map[string][]string // how each may end
	failed    *request            // the latest that met a fault
	outside   outside             // what has left the engine
	keks      keks                // rotations of the KEK
	imported  map[string][]byte   // keys whose import was acknowledged, by rotation
	damaged   string              // the page that damage flips a bit of
}

// request is one that may be sent again.
type request struct {
	id   string
	op   logical.Operation
	path string
	data map[string]any
	ack  func(*witness, *logical.Response)
}

// do sends a request and, if it is acknowledged, notes what that means.
func (w *witness) do(op logical.Operation, path string, data map[string]any, ack func(*witness, *logical.Response)) {
	r := &request{w.requestID(), op, path, data, ack}
	resp, err := w.callAs(r.id, op, path, data)
	switch {
	case err == nil:
		ack(w, resp)
	case code(resp, err) >= 500:
		w.failed = r
	}
}

// again sends the request that met the fault once more, as Vault does after the
// plugin has crashed, with the same ID, or as a client does, with a new one.
func (w *witness) again(failed *request, sameID bool) {
	if failed == nil {
		return
	}
	id := failed.id
	if !sameID {
		id = "again"
	}
	if resp, err := w.callAs(id, failed.op, failed.path, failed.data); err == nil {
		failed.ack(w, resp)
	}
}

func newWitness(m *mount) *witness {
	return &witness{mount: m, allowed: map[string][]string{}, ends: map[string][]string{}, imported: map[string][]byte{}}
}

func (w *witness) create() {
	w.do(logical.UpdateOperation, tenantPath(""), nil, func(w *witness, _ *logical.Response) { w.created = true })
}

func (w *witness) begin(item, value string) {
	if len(w.allowed[item]) == 0 {
		w.allowed[item] = []string{absent}
	}
	w.allowed[item] = append(w.allowed[item], value)
}

func (w *witness) put(item, value string) {
	w.begin(item, value)
	w.do(logical.UpdateOperation, itemPath(item), secret(value), func(w *witness, _ *logical.Response) {
		w.allowed[item] = []string{value}
	})
}

// deltas writes items such that pages of some large items get deltas: first comes
// the page, since a process gives deltas only to what it has put itself.
func (w *witness) deltas() {
	for i := range 4 {
		w.put(fmt.Sprintf("bulk/%d", i), fmt.Sprintf("short %d", len(w.allowed)))
	}
	w.put("beside/"+strconv.Itoa(len(w.allowed)), "an item that was not there")
	w.put("bulk/1", "once more")
}

func (w *witness) remove(item string) {
	w.begin(item, absent)
	w.do(logical.DeleteOperation, itemPath(item), nil, func(w *witness, _ *logical.Response) {
		w.allowed[item] = []string{absent}
	})
}

func (w *witness) bulk(n, size int) {
	var items []any
	for i := range n {
		name := fmt.Sprintf("bulk/%d", i)
		w.begin(name, filler(name, size))
		items = append(items, map[string]any{
			"kind": "secrets", "name": name, "data": map[string]any{"value": filler(name, size)},
		})
	}
	w.do(logical.UpdateOperation, tenantPath("/items"), map[string]any{"items": items}, func(w *witness, resp *logical.Response) {
		for i, r := range resp.Data["results"].([]map[string]any) {
			if r["error"] == nil {
				name := fmt.Sprintf("bulk/%d", i)
				w.allowed[name] = []string{filler(name, size)}
			}
		}
	})
}

func (w *witness) rotate() {
	w.do(logical.UpdateOperation, tenantPath("/dek/rotate"), nil, func(w *witness, resp *logical.Response) {
		id := resp.Data["rotation_id"].(string)
		w.rotations = append(w.rotations, id)
		w.ends[id] = []string{"completed"}
	})
}

// act does something to the latest rotation; how it may end then.
func (w *witness) act(action string, ends ...string) {
	if len(w.rotations) == 0 {
		return
	}
	id := w.rotations[len(w.rotations)-1]
	before := w.ends[id]
	w.ends[id] = append(slices.Clone(before), ends...)
	if _, err := w.call(logical.UpdateOperation, tenantPath("/dek/rotations/"+id+"/"+action), nil); err == nil {
		w.ends[id] = ends
	}
}

// deleteTenant deletes the tenant. Without a window its items are gone.
func (w *witness) deleteTenant(window string) {
	_, err := w.call(logical.DeleteOperation, tenantPath(""), map[string]any{"deletion_window": window})
	if window != "0" {
		return
	}
	for item := range w.allowed {
		w.begin(item, absent)
		if err == nil {
			w.allowed[item] = []string{absent}
		}
	}
	w.created, w.rotations = false, nil
}

// restore brings the tenant back, if it is being deleted.
func (w *witness) restore() {
	_, _ = w.call(logical.UpdateOperation, tenantPath("/restore"), nil)
}

// damage flips a bit of a page that has items, and flips it back when called again.
func (w *witness) damage() {
	if w.damaged == "" {
		w.damaged = w.largestPage()
	}
	key := w.damaged
	page := w.disk.Value(key)
	page[len(page)-1] ^= 1
	w.disk.Set(key, page)
}

// largestPage is the key of one. Which items share a page is random, so another may
// have none.
func (m *mount) largestPage() string {
	return slices.MaxFunc(m.pageKeys(), func(a, b string) int {
		return cmp.Compare(len(m.disk.Value(a)), len(m.disk.Value(b)))
	})
}

// filler is a value of a given size that names its item.
func filler(item string, size int) string {
	return item + "|" + strings.Repeat("x", size)
}

// advance lets fake time pass, and with it everything that waits.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// holdAfter takes a place in the pool with the next Put of a key with that prefix,
// and says whether it has: the place is given when what is moved there is done.
func (m *mount) holdAfter(prefix string) (held *atomic.Bool) {
	held = new(atomic.Bool)
	m.storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, prefix) && held.CompareAndSwap(false, true) {
			m.b.Pages.Request()
		}
	})
	return held
}

// midSweep starts a rotation and runs f while its sweep has moved some pages and
// waits for a place in the pool, without a lock. If a fault comes before, f runs
// all the same.
func (w *witness) midSweep(f func()) { w.midSweepOf(w.rotate, f) }

// midSweepOf is midSweep for a rotation that start starts.
func (w *witness) midSweepOf(start, f func()) {
	held := w.holdAfter("pages/")
	start()
	synctest.Wait()
	w.storage.Hook(nil)
	f()
	if held.Load() {
		w.b.Pages.Release()
	}
}

// on returns a witness of the same acknowledgements, of another mount.
func (w *witness) on(m *mount) *witness {
	c := newWitness(m)
	c.created = w.created
	c.rotations = slices.Clone(w.rotations)
	c.ends = maps.Clone(w.ends)
	c.imported = maps.Clone(w.imported)
	c.damaged = w.damaged
	for item, values := range w.allowed {
		c.allowed[item] = slices.Clone(values)
	}
	c.outside = w.outside.clone()
	c.keks = keks{w.keks.asked, slices.Clone(w.keks.acked)}
	return c
}
