// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// counted are the items that a test of accounts keeps, by kind.
type counted map[string]int

var countedKinds = []struct{ kind, name string }{
	{"credentials", "credentials"}, {"apiKeys", "api_keys"}, {"secrets", "secrets"},
}

// many writes items of all kinds, by name: as many of each as there are.
func (w *witness) many(name string, each counted, size int) {
	w.t.Helper()
	var items []any
	for _, k := range countedKinds {
		for i := range each[k.name] {
			items = append(items, map[string]any{
				"kind": k.kind, "name": fmt.Sprint(name, "/", i), "data": map[string]any{"value": filler(name, size)},
			})
		}
	}
	for _, r := range w.must(update, tenantPath("/items"), map[string]any{"items": items})["results"].([]map[string]any) {
		require.Nil(w.t, r["error"])
	}
}

// An end, and how a rotation comes to it.
var accountedEnds = []struct {
	status string
	damage bool
	begin  func(*witness) // while it is held in the middle
}{
	{"completed", false, func(*witness) {}},
	{"rolled_back", false, func(w *witness) { w.act("cancel", "rolled_back") }},
	{"failed", true, func(*witness) {}},
	{"failed", false, func(w *witness) {
		w.damageOn(2)
		w.act("cancel", "failed")
	}},
}

// What comes between.
var accountedTroubles = map[string]func(*witness) *witness{
	"nothing": func(w *witness) *witness { return w },
	"a restart": func(w *witness) *witness {
		w.crash()
		return w.on(openMount(w.t, w.disk, 0, storagetest.None))
	},
	"errors of writes": func(w *witness) *witness {
		n := 0
		w.storage.Fail(func(op, _ string) storagetest.Fault {
			if n++; op == "put" && n%5 == 0 && n < 60 {
				return []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale}[n/5%3]
			}
			return storagetest.None
		})
		return w
	},
	"an outage": func(w *witness) *witness {
		w.storage.Outage(storagetest.ErrInjected, true)
		advance(time.Hour)
		w.storage.Outage(nil, false)
		return w
	},
}

// At every kind of end the accounts say exactly what was there, whatever was
// interrupted, written and deleted meanwhile.
func TestAccountsAreExact(t *testing.T) {
	for _, end := range accountedEnds {
		for name, trouble := range accountedTroubles {
			t.Run(end.status+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { account(t, end.status, end.damage, end.begin, trouble) })
			})
		}
	}
}

func account(t *testing.T, status string, damaged bool, begin func(*witness), trouble func(*witness) *witness) {
	there := counted{"credentials": 11, "api_keys": 7, "secrets": 19}
	w := newWitness(newMount(t))
	slowly(w.mount)
	w.create()
	w.many("old", there, 3000)
	if damaged {
		w.damageOn(1)
	}
	id := ""
	w.midSweep(func() {
		id = w.rotations[0]
		require.Equal(t, map[string]int(there), w.status(id)["items_to_rotate"])
		w.traffic("before")
		begin(w)
		w.traffic("after")
		w = trouble(w)
		w.traffic("at last")
	})
	advance(10 * time.Minute)
	w.storage.Hook(nil)
	defer w.close()

	st := w.status(id)
	require.Equal(t, status, st["status"])
	require.Equal(t, map[string]int(there), st["items_to_rotate"])
	rotated, failed := st["items_rotated"].(map[string]int), st["items_failed"].(int)
	switch status {
	case "completed":
		require.Equal(t, map[string]int(there), rotated)
		require.Equal(t, []any{0, 100.0}, []any{failed, st["percent"]})
	case "rolled_back":
		require.Equal(t, []any{0, 0}, []any{total(rotated), failed})
	default:
		require.Positive(t, failed)
		onNew := w.itemsOn(2)
		if w.must(read, tenantPath("/dek"), nil)["current_version"] == 1 {
			require.Equal(t, onNew, total(rotated), "what has stayed on the new version")
			require.Equal(t, onNew, failed)
		} else {
			require.Equal(t, total(there), total(rotated)+failed)
			require.Equal(t, w.itemsOn(1), failed)
		}
		require.Len(t, st["failures"], 1)
	}
}

// traffic writes what is new, and writes again and deletes what was there, where
// the page opens.
func (w *witness) traffic(name string) {
	w.t.Helper()
	for i := range 4 {
		_, _ = w.call(update, tenantPath(fmt.Sprint("/secrets/", name, "/", i)), secret(filler("new", 6000)))
		_, _ = w.call(update, tenantPath(fmt.Sprint("/credentials/old/", i)), secret(name))
	}
	for _, kind := range []string{"apiKeys", "secrets"} {
		keys, _ := w.call(list, tenantPath("/"+kind), map[string]any{"limit": 1})
		if keys != nil && keys.Data["keys"] != nil {
			_, _ = w.call(del, tenantPath("/"+kind+"/"+keys.Data["keys"].([]string)[0]), nil)
		}
	}
}

func total(counts map[string]int) (n int) {
	for v := range maps.Values(counts) {
		n += v
	}
	return n
}

// damageOn damages a page of a version, and forgets what is in memory of it.
func (w *witness) damageOn(version int) {
	w.t.Helper()
	for _, key := range w.pageKeys() {
		if page := w.disk.Value(key); versionOf(page) == version {
			page[len(page)-1] ^= 1
			w.disk.Set(key, page)
			w.b.InvalidateKey(context.Background(), key)
			return
		}
	}
	require.Fail(w.t, "no such page")
}

// itemsOn counts the items of pages on a version, by their headers.
func (m *mount) itemsOn(version int) (n int) {
	for _, key := range m.pageKeys() {
		page := m.disk.Value(key)
		if versionOf(page) != version {
			continue
		}
		header := page
		if delta := m.disk.Value(deltaOf(key)); belongs(delta, page) {
			header = delta
		}
		for i := range countedKinds {
			n += int(binary.BigEndian.Uint32(header[5+4*i:]))
		}
	}
	return n
}
