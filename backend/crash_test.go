// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/faulty"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
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
	return &witness{mount: m, allowed: map[string][]string{}, ends: map[string][]string{}}
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

// damage flips a bit of the first page, and flips it back when called again.
func (w *witness) damage() {
	key := w.disk.Keys("pages/")[0]
	page := w.disk.Value(key)
	page[len(page)-1] ^= 1
	w.disk.Set(key, page)
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

// scenario is run with a fault at every operation in turn.
type scenario struct {
	name string
	// before prepares the disk, act is where the fault strikes.
	before, act func(*witness)
	twice       bool // also with a second fault in the recovery
}

// scenarios are those of items and rotations. Their values are large, so that a
// few items fill pages and split them.
var scenarios = []scenario{
	{
		name:   "create a tenant and write",
		before: func(*witness) {},
		act: func(w *witness) {
			w.create()
			w.put("a", "1")
			w.put("a", "2")
			w.remove("a")
			w.put("b", "1")
		},
	},
	{
		name:   "write across splits",
		before: (*witness).create,
		act: func(w *witness) {
			for i := range 14 {
				w.put(fmt.Sprintf("item/%d", i), filler("split", 7000))
			}
			w.put("item/0", "small")
			w.remove("item/1")
		},
		twice: true,
	},
	{
		name:   "large items",
		before: (*witness).create,
		act: func(w *witness) {
			for i := range 3 {
				w.put(fmt.Sprintf("small/%d", i), "small")
				w.put(fmt.Sprintf("large/%d", i), filler("large", 240_000))
			}
			w.put("large/0", "small now")
		},
	},
	{
		name:   "write in bulk",
		before: (*witness).create,
		act:    func(w *witness) { w.bulk(60, 3000) },
	},
	{
		name: "rotate",
		before: func(w *witness) {
			w.create()
			w.bulk(40, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			advance(time.Second)
		},
		twice: true,
	},
	{
		name: "rotate while writing",
		before: func(w *witness) {
			w.create()
			w.bulk(20, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			for i := range 6 {
				w.put(fmt.Sprintf("bulk/%d", i), "written during the rotation")
				w.put(fmt.Sprintf("new/%d", i), filler("new", 6000))
				synctest.Wait()
			}
			w.remove("bulk/7")
			advance(time.Second)
		},
	},
	{
		name: "two rotations in a row",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			advance(time.Second)
			w.put("bulk/1", "between")
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "cancel",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.midSweep(func() {
				w.put("bulk/1", "under the new key")
				w.act("cancel", "rolled_back")
				w.put("bulk/2", "under the old key again")
			})
			advance(time.Second)
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "cancel, and let the old key be",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.midSweep(func() { w.act("cancel", "rolled_back") })
			advance(time.Second)
		},
		twice: true,
	},
	{
		name: "pause, cancel while paused, and rotate again",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.midSweep(func() {
				w.act("pause", "paused")
				w.put("bulk/1", "while paused")
				w.act("resume", "completed")
				w.act("pause", "paused")
				w.act("cancel", "rolled_back")
			})
			advance(time.Second)
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "delete and restore",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			w.deleteTenant("24h")
			advance(time.Second)
			w.restore()
			w.put("bulk/1", "after it was restored")
		},
	},
	{
		name: "shred, and create again",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			w.deleteTenant("0")
			w.create()
			w.put("bulk/1", "of the new tenant")
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "keep a retired key, and rotate by schedule",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
			w.must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "1h", "scheduler_jitter": 0})
			w.must(logical.UpdateOperation, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
			w.rotate()
		},
		act: func(w *witness) {
			advance(2 * time.Hour)
			w.tick()
			advance(91 * 24 * time.Hour)
			w.tick()
			w.put("bulk/1", "after the schedule has rotated")
		},
	},
	{
		name: "retry",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
			w.damage()
			w.rotate()
			w.ends[w.rotations[0]] = []string{"failed"}
		},
		act: func(w *witness) {
			w.damage()
			w.act("retry", "completed")
			advance(time.Second)
		},
	},
}

// midSweep starts a rotation and runs f while its sweep has moved some pages and
// waits for a place in the pool, without a lock. If a fault comes before, f runs
// all the same.
func (w *witness) midSweep(f func()) {
	var held chan struct{}
	w.storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, "pages/") && held == nil {
			held = w.b.workers.pool.request()
		}
	})
	w.rotate()
	synctest.Wait()
	w.storage.Hook(nil)
	f()
	if held != nil {
		w.b.workers.pool.release()
	}
}

// TestEveryCrashPoint runs each scenario once for every storage operation that
// it makes and every way in which that can fail, opens what is left with a new
// engine, lets it rest, and checks the invariants of docs/how-it-works.md.
func TestEveryCrashPoint(t *testing.T) { atEveryPoint(t, scenarios) }

func atEveryPoint(t *testing.T, scenarios []scenario) {
	t.Helper()
	seed := seedOf(t)
	total := 0
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			prepared, ops := rehearse(t, sc.before, sc.act)
			points := 0
			for n, op := range ops {
				for _, fault := range faultsOf(op) {
					points++
					ok := t.Run(fmt.Sprintf("%d %s, %s", n+1, strings.Fields(op)[0], fault), func(t *testing.T) {
						cryptotest.SetGlobalRandom(t, seed+fresh)
						synctest.Test(t, func(t *testing.T) { crashAt(t, prepared, sc.act, crash{n + 1, fault}, crash{}) })
					})
					if !ok {
						t.FailNow()
					}
				}
			}
			if sc.twice {
				points += crashTwice(t, prepared, sc.act, len(ops), seed)
			}
			total += points
			t.Logf("%d crash points", points)
		})
	}
	if !t.Failed() {
		t.Logf("%d crash points in %d scenarios, no violation (CRASH_SEED=%d)", total, len(scenarios), seed)
	}
}

// fresh keeps what is drawn after the disk was prepared apart from what was drawn
// before: the same IDs twice would be another test.
const fresh = 1 << 32

// seedOf is where items are placed and what keys and IDs are: one seed, one
// run, as far as goroutines allow.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CRASH_SEED")
	if text == "" {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, "CRASH_SEED")
	return seed
}

// crash is a fault at an operation, counted from 1.
type crash struct {
	n     int
	fault faulty.Fault
}

// crashTwice lets a second fault meet the recovery from the first: at every
// operation the process dies or a write's error hides its effect, and the second
// fault comes at operations spread over the recovery.
func crashTwice(t *testing.T, prepared func() *witness, act func(*witness), ops int, seed uint64) (points int) {
	t.Helper()
	const stride, reach = 11, 66
	for n := 1; n <= ops; n++ {
		for _, first := range []faulty.Fault{faulty.Gone, faulty.AfterStale} {
			for m := 1 + n%stride; m <= reach; m += stride {
				second := []faulty.Fault{faulty.Gone, faulty.AfterStale, faulty.Before}[(n+m)%3]
				points++
				ok := t.Run(fmt.Sprintf("%d %s, then %d %s", n, first, m, second), func(t *testing.T) {
					cryptotest.SetGlobalRandom(t, seed+fresh)
					synctest.Test(t, func(t *testing.T) { crashAt(t, prepared, act, crash{n, first}, crash{m, second}) })
				})
				if !ok {
					t.FailNow()
				}
			}
		}
	}
	return points
}

func faultsOf(op string) []faulty.Fault {
	if strings.HasPrefix(op, "put ") || strings.HasPrefix(op, "delete ") {
		return []faulty.Fault{faulty.Before, faulty.After, faulty.AfterStale, faulty.Gone}
	}
	return []faulty.Fault{faulty.Before, faulty.Gone}
}

// rehearse runs a scenario without a fault. It returns the disk before act, what
// was acknowledged by then, and act's operations.
func rehearse(t *testing.T, before, act func(*witness)) (prepared func() *witness, ops []string) {
	t.Helper()
	var disk *faulty.Disk
	var known *witness
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		slowly(m)
		known = newWitness(m)
		before(known)
		advance(time.Second)
		m.close()
		disk = m.disk.Clone()

		m = openMount(t, m.disk, 0, faulty.None)
		w := known.on(m)
		synctest.Wait() // what the start reads is not act's
		start := m.storage.Ops()
		act(w)
		advance(time.Minute)
		ops = m.storage.Log()[start:]
		m.close()
	})
	return func() *witness { return known.on(&mount{disk: disk.Clone()}) }, ops
}

// on returns a witness of the same acknowledgements, of another mount.
func (w *witness) on(m *mount) *witness {
	c := newWitness(m)
	c.created = w.created
	c.rotations = slices.Clone(w.rotations)
	c.ends = maps.Clone(w.ends)
	for item, values := range w.allowed {
		c.allowed[item] = slices.Clone(values)
	}
	c.outside = w.outside.clone()
	return c
}

// slowly lets one page at a time move, so that operations come in one order.
func slowly(m *mount) {
	m.must(logical.UpdateOperation, "config", map[string]any{"rotation_parallelism": 1})
	m.destroyAtOnce()
}

// crashAt runs act with a fault, and perhaps another in the recovery from it, and
// checks what is left: twice, since Vault's cache may survive the plugin and then
// go. The request that met the fault is sent again.
func crashAt(t *testing.T, prepared func() *witness, act func(*witness), first, second crash) {
	before := prepared()
	m := openMount(t, before.disk, 0, faulty.None)
	synctest.Wait()
	m.storage.FailNext(first.n, first.fault)
	w := before.on(m)
	act(w)
	failed := w.failed
	m.crash()

	if second.n > 0 {
		m = openMount(t, m.disk, second.n, second.fault)
		advance(time.Minute)
		m.crash()
	}
	w = w.on(openMount(t, m.disk, 0, faulty.None))
	w.again(failed, first.n%2 == 0)
	w.rest()
	w.readsBack()
	w.close()

	m.disk.RestartVault()
	w = w.on(openMount(t, m.disk, 0, faulty.None))
	w.rest()
	w.readsBack()
	w.atRest()
	w.works()
	w.close()
}

// rest lets time pass and Vault's rollback manager do its rounds.
func (w *witness) rest() {
	for range 2 {
		advance(15 * time.Minute)
		for _, data := range []map[string]any{nil, {"immediate": true}} {
			// It reports entries that it keeps; atRest tells whether any stay.
			_, _ = w.call(logical.RollbackOperation, "", data)
		}
	}
	advance(time.Minute)
}

// readsBack checks that every item has an acknowledged value.
func (w *witness) readsBack() {
	w.t.Helper()
	w.restore()
	var present []string
	for item, allowed := range w.allowed {
		resp, err := w.call(logical.ReadOperation, itemPath(item), nil)
		value := absent
		if err == nil {
			value = resp.Data["data"].(map[string]any)["value"].(string)
			present = append(present, item)
		} else {
			require.Equal(w.t, 404, code(resp, err), "reading %s: %v", item, err)
		}
		// What is read does not narrow what is allowed: behind Vault's cache a
		// write whose error said that it failed may still come to light.
		if !slices.Contains(allowed, value) {
			require.Fail(w.t, "lost", "item %s reads %.30q of %d bytes", item, value, len(value))
		}
	}
	if !w.exists() {
		require.Empty(w.t, present)
		return
	}
	w.opens()
	slices.Sort(present)
	keys, _ := w.must(logical.ListOperation, tenantPath("/secrets/"), nil)["keys"].([]string)
	require.Equal(w.t, present, append([]string(nil), keys...), "the list of items")
	counts := w.must(logical.ReadOperation, tenantPath(""), nil)["item_counts"].(map[string]int)
	require.Equal(w.t, len(present), counts["secrets"], "item_counts")
}

func (w *witness) exists() bool {
	_, err := w.call(logical.ReadOperation, tenantPath(""), nil)
	if w.created {
		require.NoError(w.t, err, "an acknowledged tenant is gone")
	}
	return err == nil
}

// atRest checks what has to hold once everything has come to an end.
func (w *witness) atRest() {
	w.t.Helper()
	for _, stone := range w.disk.Keys("tombstones/") {
		_, inc, _ := strings.Cut(stone, testTenant+".")
		for _, prefix := range []string{"keys/", "pages/", "history/", "progress/"} {
			require.Empty(w.t, w.disk.Keys(prefix+inc), "of a tenant that was shredded")
		}
	}
	if !w.exists() {
		require.Empty(w.t, w.disk.Keys(framework.WALPrefix), "the write-ahead log")
		return
	}
	w.resumePaused()
	require.Empty(w.t, w.disk.Keys(framework.WALPrefix), "the write-ahead log")
	rec := w.record()
	require.Nil(w.t, rec.Rotation, "unfinished rotation")
	w.scheduled(rec)
	w.versions(rec)
	failed := rec.Last != nil && rec.Last.Phase == store.Failed
	for _, key := range w.disk.Keys("pages/") {
		if failed {
			break // a page that did not open stays where it was
		}
		page := w.disk.Value(key)
		version := int(page[1])<<24 | int(page[2])<<16 | int(page[3])<<8 | int(page[4])
		require.Equal(w.t, rec.Keys.Active().Number, version, "%s is on another version", key)
	}
	for _, id := range w.rotations {
		st := w.status(id)
		require.Contains(w.t, w.ends[id], st["status"], "rotation %s", id)
		if st["status"] == "completed" {
			require.Equal(w.t, st["items_to_rotate"], st["items_rotated"], "accounts")
		}
	}
}

// scheduled checks that the schedule holds every hint that the record wants.
func (w *witness) scheduled(rec *store.Tenant) {
	w.t.Helper()
	var hints []string
	for _, key := range w.disk.Keys("schedule/") {
		parts := strings.Split(key, "/")
		hints = append(hints, strings.Join(parts[1:min(3, len(parts))], "/"))
	}
	for _, h := range rec.Hints() {
		require.Contains(w.t, hints, string(h.Index)+"/"+h.Day, "the schedule")
	}
	floors := map[string]string{}
	require.NoError(w.t, json.Unmarshal(w.disk.Value("schedule/floors"), &floors))
	for _, h := range rec.Hints() {
		if h.Index != store.FailedNow {
			require.NotEmpty(w.t, floors[string(h.Index)])
			require.LessOrEqual(w.t, floors[string(h.Index)], h.Day, "the floor of %s", h.Index)
		}
	}
}

// resumePaused resumes a rotation that a fault left paused, and rests.
func (w *witness) resumePaused() {
	if rec := w.record(); rec.Rotation != nil && rec.Rotation.Paused {
		w.act("resume", "completed", "rolled_back")
		w.rest()
	}
}

// versions checks the ring, and that the keys in storage are those it names.
func (w *witness) versions(rec *store.Tenant) {
	w.t.Helper()
	active, last := 0, 0
	keys := []string{"keys/" + rec.Incarnation + "/" + rec.PlacementKeyID}
	for _, v := range rec.Keys.Versions {
		require.Greater(w.t, v.Number, last, "version numbers")
		last = v.Number
		if v.State == keyring.Active {
			active++
		}
		if v.State != keyring.Destroyed {
			keys = append(keys, w.keysOf(rec, v)...)
		}
	}
	require.Equal(w.t, 1, active, "active versions")
	slices.Sort(keys)
	require.Equal(w.t, keys, w.disk.Keys("keys/"+rec.Incarnation+"/"), "keys in storage")
}

// record reads the tenant's record from disk.
func (w *witness) record() *store.Tenant {
	w.t.Helper()
	for _, key := range w.disk.Keys("tenants/") {
		if strings.HasSuffix(key, testTenant) {
			rec := new(store.Tenant)
			require.NoError(w.t, json.Unmarshal(w.disk.Value(key), rec))
			return rec
		}
	}
	require.Fail(w.t, "no tenant record")
	return nil
}

// works checks that the tenant can go on: be written, and be rotated.
func (w *witness) works() {
	w.t.Helper()
	w.must(logical.UpdateOperation, tenantPath(""), nil)
	w.must(logical.UpdateOperation, itemPath("after"), secret("after"))
	w.allowed["after"] = []string{"after"}
	id := w.must(logical.UpdateOperation, tenantPath("/dek/rotate"), nil)["rotation_id"].(string)
	advance(time.Minute)
	assert.Equal(w.t, "completed", w.status(id)["status"])
	w.readsBack()
	w.atRest()
	w.sealsAndOpens()
}
