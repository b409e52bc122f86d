// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// stones reads the tombstones of an ID.
func (m *mount) stones(id string) []map[string]any {
	m.t.Helper()
	return m.must(read, "tombstones/"+id, nil)["tombstones"].([]map[string]any)
}

func TestTombstonesTellWhatWasShredded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.refused(404, "shredded", read, "tombstones/"+testTenant, nil)
		require.Nil(t, m.must(list, "tombstones", nil)["keys"])

		created := time.Now().UTC().Format(time.RFC3339Nano)
		m.must(update, tenantPath(""), map[string]any{"display_name": "Zoë 東京 🔑"})
		m.must(update, itemPath("a"), secret("v"))
		m.must(update, tenantPath("/apiKeys/b"), secret("v"))
		m.rotated(nil)
		m.must(update, tenantPath("/encrypt"), map[string]any{"plaintext": ""})
		asked := time.Now().UTC().Format(time.RFC3339Nano)
		m.must(del, tenantPath(""), map[string]any{"deletion_window": "1h"})
		require.Nil(t, m.must(list, "tombstones", nil)["keys"], "it can be restored")
		advance(2 * time.Hour)
		shredded := time.Now().UTC().Format(time.RFC3339Nano)
		m.tick()
		synctest.Wait()

		require.Equal(t, []string{testTenant}, m.must(list, "tombstones", nil)["keys"])
		stones := m.stones(testTenant)
		require.Len(t, stones, 1)
		stone := stones[0]
		require.Regexp(t, "^[0-9a-f]{32}$", stone["incarnation"])
		delete(stone, "incarnation")
		require.Equal(t, map[string]any{
			"display_name": "Zoë 東京 🔑", "created_at": created, "deleted_at": asked,
			"shredded_at": shredded,
			"deleted_by":  map[string]any{"id": "root", "name": "", "email": ""},
			"items":       map[string]int{"credentials": 0, "api_keys": 1, "secrets": 1}, "versions": 2,
		}, stone)

		m.must(update, tenantPath(""), map[string]any{"display_name": "the next"})
		advance(time.Minute)
		m.must(del, tenantPath(""), map[string]any{"deletion_window": 0})
		stones = m.stones(testTenant)
		require.Len(t, stones, 2, "of each tenant that had the ID")
		require.Equal(t, "the next", stones[0]["display_name"], "newest first")
		require.Equal(t, []string{testTenant}, m.must(list, "tombstones", nil)["keys"], "the ID once")

		m.close()
		again := openMount(t, m.disk, 0, storagetest.None)
		defer again.close()
		require.Equal(t, stones, again.stones(testTenant), "after a restart")
		require.Equal(t, []string{testTenant}, again.must(list, "tombstones", nil)["keys"])
	})
}

// Of who asked, the ID alone is stored: names and emails would stay for ever.
func TestTombstonesNameNoPerson(t *testing.T) {
	m := conditions{system: people{}}.engine(t, storagetest.NewDisk(), 0, storagetest.None)
	m.disk.Set("config", []byte(`{"min_deletion_window":0}`))
	m.start()
	defer m.close()
	m.must(update, tenantPath(""), nil)
	resp, err := m.b.HandleRequest(t.Context(), &logical.Request{
		Operation: del, Path: tenantPath(""), Storage: m.storage, EntityID: "entity", DisplayName: "jwt-sub-1",
		Data: map[string]any{"deletion_window": 0},
	})
	require.Equal(t, 200, code(resp, err))
	require.Equal(t, "sub-1", m.stones(testTenant)[0]["deleted_by"].(map[string]any)["id"])
	for _, key := range m.disk.Keys("tombstones/") {
		require.NotContains(t, string(m.disk.Value(key)), "Jo Doe")
		require.NotContains(t, string(m.disk.Value(key)), "@")
	}
}

// people knows one caller.
type people struct{ logical.StaticSystemView }

func (people) EntityInfo(string) (*logical.Entity, error) {
	return &logical.Entity{ID: "entity", Aliases: []*logical.Alias{{
		Name: "sub-1", Metadata: map[string]string{"name": "Jo Doe", "email": "jo@example.com"},
	}}}, nil
}

func TestTombstonesAreListedInParts(t *testing.T) {
	m := newMount(t)
	defer m.close()
	var ids []string
	for n := range 12 {
		ids = append(ids, tenantN(n))
		m.must(update, "tenants/"+tenantN(n), nil)
		if n == 5 {
			m.must(list, "tombstones", nil) // what is in memory from here on is kept right
		}
		m.must(del, "tenants/"+tenantN(n), map[string]any{"deletion_window": 0})
	}
	slices.Sort(ids)
	require.Equal(t, ids, m.must(list, "tombstones", nil)["keys"])
	require.Equal(t, ids[4:9], m.must(list, "tombstones", map[string]any{"after": ids[3], "limit": 5})["keys"])
	require.Nil(t, m.must(list, "tombstones", map[string]any{"after": ids[11]})["keys"])
	m.refused(400, "limit", list, "tombstones", map[string]any{"limit": "x"})
	for _, id := range []string{"x", strings.ToUpper("3fa85f64-5717-4562-b3fc-2c963f66afa6"), "+", "..", strings.Repeat("a", 3000)} {
		m.refused(400, "tenant_id", read, "tombstones/"+id, nil)
	}
	m.refused(404, "shredded", read, "tombstones/"+testTenant, nil)

	before := m.storage.Ops()
	m.must(list, "tombstones", map[string]any{"limit": 3})
	require.Equal(t, before, m.storage.Ops(), "a list that is known is read from memory")
}

// Of one ID the last 100 stay. One that cannot be read keeps no tenant from going.
func TestTombstonesOfOneIDAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		again := func() {
			m.must(update, tenantPath(""), nil)
			advance(time.Second)
			m.must(del, tenantPath(""), map[string]any{"deletion_window": 0})
		}
		again()
		damaged := m.disk.Keys("tombstones/")[0]
		for range 99 {
			again()
		}
		second := m.stones(testTenant)[98]["incarnation"].(string)
		m.disk.Set(damaged, []byte("{"))
		again()
		require.Len(t, m.disk.Keys("tombstones/"), 100)
		require.NotNil(t, m.disk.Value(damaged))
		for _, key := range m.disk.Keys("tombstones/") {
			require.NotContains(t, key, second, "the oldest that can be read went")
		}
		resp, err := m.b.HandleRequest(context.Background(), &logical.Request{Operation: read, Path: "tombstones/" + testTenant, Storage: m.storage})
		require.NoError(t, err)
		require.Len(t, resp.Data["tombstones"], 99)
		require.NotEmpty(t, resp.Warnings, "it says that there are more")
	})
}
