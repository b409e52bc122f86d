// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// TestPagesBehaveAsAMap makes random changes of items, small and large, with
// splits, rotations and reopened engines between, and compares with a map.
func TestPagesBehaveAsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &pageMachine{Mount: enginetest.NewMount(t), want: map[string]string{}}
			m.Must(logical.UpdateOperation, enginetest.TenantPath(""), nil)
			rt.Repeat(map[string]func(*rapid.T){
				"put":    m.put,
				"bulk":   m.bulk,
				"delete": m.remove,
				"read":   m.read,
				"list":   m.list,
				"rotate": m.rotate,
				"reopen": m.reopen,
			})
			m.check(rt)
			m.Close()
		})
	})
}

type pageMachine struct {
	*enginetest.Mount
	want map[string]string // by kind and name
}

var itemNames = rapid.Custom(func(t *rapid.T) string {
	kind := rapid.SampledFrom([]string{"credentials", "apiKeys", "secrets"}).Draw(t, "kind")
	return fmt.Sprintf("%s/n%d", kind, rapid.IntRange(0, 40).Draw(t, "name"))
})

// sizes are mostly small, sometimes a good part of a page, now and then more
// than a page.
var sizes = rapid.OneOf(
	rapid.IntRange(0, 300), rapid.IntRange(0, 300),
	rapid.IntRange(2000, 12000), rapid.IntRange(30_000, 200_000),
)

func (m *pageMachine) put(t *rapid.T) {
	item := itemNames.Draw(t, "item")
	value := strings.Repeat("v", sizes.Draw(t, "size")) + item
	m.Must(logical.UpdateOperation, enginetest.TenantPath("/"+item), enginetest.Secret(value))
	m.want[item] = value
}

func (m *pageMachine) bulk(t *rapid.T) {
	names := rapid.SliceOfN(itemNames, 1, 60).Draw(t, "items")
	var items []any
	for i, item := range names {
		value := strings.Repeat("b", sizes.Draw(t, "size")) + fmt.Sprint(i)
		kind, name, _ := strings.Cut(item, "/")
		items = append(items, map[string]any{"kind": kind, "name": name, "data": map[string]any{"value": value}})
		m.want[item] = value // the last one of a name stands
	}
	results := m.Must(logical.UpdateOperation, enginetest.TenantPath("/items"), map[string]any{"items": items})["results"]
	for _, r := range results.([]map[string]any) {
		require.Nil(t, r["error"])
	}
}

func (m *pageMachine) remove(t *rapid.T) {
	item := itemNames.Draw(t, "item")
	resp, err := m.Call(logical.DeleteOperation, enginetest.TenantPath("/"+item), nil)
	if _, there := m.want[item]; there {
		require.NoError(t, err)
	} else {
		require.Equal(t, 404, enginetest.Code(resp, err))
	}
	delete(m.want, item)
}

func (m *pageMachine) read(t *rapid.T) { m.readBack(t, itemNames.Draw(t, "item")) }

func (m *pageMachine) readBack(t *rapid.T, item string) {
	resp, err := m.Call(logical.ReadOperation, enginetest.TenantPath("/"+item), nil)
	want, there := m.want[item]
	if !there {
		require.Equal(t, 404, enginetest.Code(resp, err))
		return
	}
	require.NoError(t, err)
	require.Equal(t, want, resp.Data["data"].(map[string]any)["value"])
}

// list compares a list taken whole, sorted, with one taken in parts.
func (m *pageMachine) list(t *rapid.T) {
	kind := rapid.SampledFrom([]string{"credentials", "apiKeys", "secrets"}).Draw(t, "kind")
	var want []string
	for item := range m.want {
		if name, ok := strings.CutPrefix(item, kind+"/"); ok {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	whole, _ := m.Must(logical.ListOperation, enginetest.TenantPath("/"+kind), nil)["keys"].([]string)
	require.Equal(t, want, append([]string(nil), whole...))

	limit := rapid.IntRange(1, 7).Draw(t, "limit")
	var parts []string
	after := ""
	for {
		part, _ := m.Must(logical.ListOperation, enginetest.TenantPath("/"+kind),
			map[string]any{"after": after, "limit": limit})["keys"].([]string)
		require.LessOrEqual(t, len(part), limit)
		parts = append(parts, part...)
		if len(part) < limit {
			break
		}
		after = part[len(part)-1]
	}
	slices.Sort(parts)
	require.Equal(t, want, parts)
}

func (m *pageMachine) rotate(t *rapid.T) {
	r := m.Must(logical.UpdateOperation, enginetest.TenantPath("/dek/rotate"), nil)
	enginetest.Advance(time.Second)
	st := m.Status(r["rotation_id"].(string))
	require.Equal(t, "completed", st["status"])
	require.Equal(t, r["items_to_rotate"], st["items_rotated"])
	require.Equal(t, m.counts(), st["items_rotated"])
}

func (m *pageMachine) reopen(*rapid.T) {
	m.Close()
	m.Mount = enginetest.OpenMount(m.T, m.Disk, 0, storagetest.None)
}

func (m *pageMachine) counts() map[string]int {
	n := map[string]int{"credentials": 0, "api_keys": 0, "secrets": 0}
	for item := range m.want {
		kind, _, _ := strings.Cut(item, "/")
		n[map[string]string{"credentials": "credentials", "apiKeys": "api_keys", "secrets": "secrets"}[kind]]++
	}
	return n
}

// check reads everything back, and holds the engine's counts and the pages on
// disk against what there is.
func (m *pageMachine) check(t *rapid.T) {
	for _, item := range slices.Sorted(maps.Keys(m.want)) {
		m.readBack(t, item)
	}
	require.Equal(t, m.counts(), m.Must(logical.ReadOperation, enginetest.TenantPath(""), nil)["item_counts"])
	for _, key := range m.Disk.Keys("") {
		size := len(m.Disk.Value(key))
		require.LessOrEqual(t, size, 512<<10, "entry %s", key)
	}
}
