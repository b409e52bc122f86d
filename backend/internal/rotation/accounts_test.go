// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// counted are the items that a test of accounts keeps, by kind.
type counted map[string]int

var countedKinds = []struct{ kind, name string }{
	{"credentials", "credentials"}, {"apiKeys", "api_keys"}, {"secrets", "secrets"},
}

// many writes items of all kinds, by name: as many of each as there are.
func many(w *enginetest.Oracle, name string, each counted, size int) {
	w.T.Helper()
	var items []any
	for _, k := range countedKinds {
		for i := range each[k.name] {
			items = append(items, map[string]any{
				"kind": k.kind, "name": fmt.Sprint(name, "/", i), "data": map[string]any{"value": enginetest.Filler(name, size)},
			})
		}
	}
	for _, r := range w.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": items})["results"].([]map[string]any) {
		require.Nil(w.T, r["error"])
	}
}

// An end, and how a rotation comes to it.
var accountedEnds = []struct {
	status string
	damage bool
	begin  func(*enginetest.Oracle) // while it is held in the middle
}{
	{"completed", false, func(*enginetest.Oracle) {}},
	{"rolled_back", false, func(w *enginetest.Oracle) { w.Act("cancel", "rolled_back") }},
	{"failed", true, func(*enginetest.Oracle) {}},
	{"failed", false, func(w *enginetest.Oracle) {
		damageOn(w, 2)
		w.Act("cancel", "failed")
	}},
}

// What comes between.
var accountedTroubles = map[string]func(*enginetest.Oracle) *enginetest.Oracle{
	"nothing": func(w *enginetest.Oracle) *enginetest.Oracle { return w },
	"a restart": func(w *enginetest.Oracle) *enginetest.Oracle {
		w.Crash()
		return w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
	},
	"errors of writes": func(w *enginetest.Oracle) *enginetest.Oracle {
		n := 0
		w.Storage.Fail(func(op, _ string) storagetest.Fault {
			if n++; op == "put" && n%5 == 0 && n < 60 {
				return []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale}[n/5%3]
			}
			return storagetest.None
		})
		return w
	},
	"an outage": func(w *enginetest.Oracle) *enginetest.Oracle {
		w.Storage.Outage(storagetest.ErrInjected, true)
		enginetest.Advance(time.Hour)
		w.Storage.Outage(nil, false)
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

func account(t *testing.T, status string, damaged bool, begin func(*enginetest.Oracle), trouble func(*enginetest.Oracle) *enginetest.Oracle) {
	there := counted{"credentials": 11, "api_keys": 7, "secrets": 19}
	w := enginetest.NewOracle(enginetest.NewMount(t))
	enginetest.Slowly(w.Mount)
	w.Create()
	many(w, "old", there, 3000)
	if damaged {
		damageOn(w, 1)
	}
	id := ""
	w.MidSweep(func() {
		id = w.Rotations[0]
		require.Equal(t, map[string]int(there), w.Status(id)["items_to_rotate"])
		traffic(w, "before")
		begin(w)
		traffic(w, "after")
		w = trouble(w)
		traffic(w, "at last")
	})
	enginetest.Advance(10 * time.Minute)
	w.Storage.Hook(nil)
	defer w.Close()

	st := w.Status(id)
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
		onNew := itemsOn(w.Mount, 2)
		if w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"] == 1 {
			require.Equal(t, onNew, total(rotated), "what has stayed on the new version")
			require.Equal(t, onNew, failed)
		} else {
			require.Equal(t, total(there), total(rotated)+failed)
			require.Equal(t, itemsOn(w.Mount, 1), failed)
		}
		require.Len(t, st["failures"], 1)
	}
}

// traffic writes what is new, and writes again and deletes what was there, where
// the page opens.
func traffic(w *enginetest.Oracle, name string) {
	w.T.Helper()
	for i := range 4 {
		_, _ = w.Call(enginetest.Update, enginetest.TenantPath(fmt.Sprint("/secrets/", name, "/", i)), enginetest.Secret(enginetest.Filler("new", 6000)))
		_, _ = w.Call(enginetest.Update, enginetest.TenantPath(fmt.Sprint("/credentials/old/", i)), enginetest.Secret(name))
	}
	for _, kind := range []string{"apiKeys", "secrets"} {
		keys, _ := w.Call(enginetest.List, enginetest.TenantPath("/"+kind), map[string]any{"limit": 1})
		if keys != nil && keys.Data["keys"] != nil {
			_, _ = w.Call(enginetest.Delete, enginetest.TenantPath("/"+kind+"/"+keys.Data["keys"].([]string)[0]), nil)
		}
	}
}

func total(counts map[string]int) (n int) {
	for v := range maps.Values(counts) {
		n += v
	}
	return n
}

// damageOn damages a page of a version that has items, and forgets what is in memory of it:
// a damaged page without any counts as one item.
func damageOn(w *enginetest.Oracle, version int) {
	w.T.Helper()
	for _, key := range w.PageKeys() {
		if page := w.Disk.Value(key); enginetest.VersionOf(page) == version && itemsIn(w.Mount, key) > 0 {
			page[len(page)-1] ^= 1
			w.Disk.Set(key, page)
			w.Engine.InvalidateKey(context.Background(), key)
			return
		}
	}
	require.Fail(w.T, "no such page")
}

// itemsOn counts the items of pages on a version, by their headers.
func itemsOn(m *enginetest.Mount, version int) (n int) {
	for _, key := range m.PageKeys() {
		if enginetest.VersionOf(m.Disk.Value(key)) == version {
			n += itemsIn(m, key)
		}
	}
	return n
}

// itemsIn counts the items of a page with its delta.
func itemsIn(m *enginetest.Mount, key string) (n int) {
	header := m.Disk.Value(key)
	if delta := m.Disk.Value(deltaOf(key)); belongs(delta, header) {
		header = delta
	}
	for i := range countedKinds {
		n += int(binary.BigEndian.Uint32(header[5+4*i:]))
	}
	return n
}

// deltaOf is the key of the delta of the page at a key.
func deltaOf(page string) string { return path.Dir(page) + "/d" + path.Base(page)[1:] }

// belongs reports whether a delta names the tag that ends a page.
func belongs(delta, page []byte) bool {
	const tagLength = 16
	return len(delta) > enginetest.HeaderLength+tagLength &&
		bytes.Equal(delta[enginetest.HeaderLength:][:tagLength], page[len(page)-tagLength:])
}

// The accounts of a failed rotation are right though a restart interrupted it.
func TestFailedRotationCountsAcrossARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 40)
		w.Damage()
		id, release := enginetest.RotateAndHold(w.Mount)
		w.Storage.Kill()
		release()
		w.Close()
		m := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
		defer m.Close()
		enginetest.Advance(time.Minute)
		st := m.Status(id)
		require.Equal(t, "failed", st["status"])
		require.Positive(t, st["items_failed"])
		require.Equal(t, 40, st["items_failed"].(int)+st["items_rotated"].(map[string]int)["secrets"])
	})
}
