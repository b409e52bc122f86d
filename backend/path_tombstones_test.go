// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// tombstones reads the tombstones of an ID.
func tombstones(m *enginetest.Mount, id string) []map[string]any {
	m.T.Helper()
	return m.Must(enginetest.Read, "tombstones/"+id, nil)["tombstones"].([]map[string]any)
}

func TestTombstonesTellWhatWasShredded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Refused(404, "shredded", enginetest.Read, "tombstones/"+enginetest.TenantID, nil)
		require.Nil(t, m.Must(enginetest.List, "tombstones", nil)["keys"])

		created := time.Now().UTC().Format(time.RFC3339Nano)
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": "Zoë 東京 🔑"})
		m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("v"))
		m.Must(enginetest.Update, enginetest.TenantPath("/apiKeys/b"), enginetest.Secret("v"))
		m.Rotated(nil)
		m.Must(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": ""})
		asked := time.Now().UTC().Format(time.RFC3339Nano)
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "1h"})
		require.Nil(t, m.Must(enginetest.List, "tombstones", nil)["keys"], "it can be restored")
		enginetest.Advance(2 * time.Hour)
		shredded := time.Now().UTC().Format(time.RFC3339Nano)
		m.Tick()
		synctest.Wait()

		require.Equal(t, []string{enginetest.TenantID}, m.Must(enginetest.List, "tombstones", nil)["keys"])
		stones := tombstones(m, enginetest.TenantID)
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

		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": "the next"})
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		stones = tombstones(m, enginetest.TenantID)
		require.Len(t, stones, 2, "of each tenant that had the ID")
		require.Equal(t, "the next", stones[0]["display_name"], "newest first")
		require.Equal(t, []string{enginetest.TenantID}, m.Must(enginetest.List, "tombstones", nil)["keys"], "the ID once")

		m.Close()
		again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer again.Close()
		require.Equal(t, stones, tombstones(again, enginetest.TenantID), "after a restart")
		require.Equal(t, []string{enginetest.TenantID}, again.Must(enginetest.List, "tombstones", nil)["keys"])
	})
}

// Of who asked, the ID alone is stored: names and emails would stay for ever.
func TestTombstonesNameNoPerson(t *testing.T) {
	m := enginetest.Conditions{System: people{}}.Open(t, storagetest.NewDisk(), 0, storagetest.None)
	m.Disk.Set("config", []byte(`{"min_deletion_window":0}`))
	m.Start()
	defer m.Close()
	m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
	resp, err := m.Engine.HandleRequest(t.Context(), &logical.Request{
		Operation: enginetest.Delete, Path: enginetest.TenantPath(""), Storage: m.Storage, EntityID: "entity", DisplayName: "jwt-sub-1",
		Data: map[string]any{"deletion_window": 0},
	})
	require.Equal(t, 200, enginetest.Code(resp, err))
	require.Equal(t, "sub-1", tombstones(m, enginetest.TenantID)[0]["deleted_by"].(map[string]any)["id"])
	for _, key := range m.Disk.Keys("tombstones/") {
		require.NotContains(t, string(m.Disk.Value(key)), "Jo Doe")
		require.NotContains(t, string(m.Disk.Value(key)), "@")
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
	m := enginetest.NewMount(t)
	defer m.Close()
	var ids []string
	for n := range 12 {
		ids = append(ids, enginetest.TenantN(n))
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		if n == 5 {
			m.Must(enginetest.List, "tombstones", nil) // what is in memory from here on is kept right
		}
		m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(n), map[string]any{"deletion_window": 0})
	}
	slices.Sort(ids)
	require.Equal(t, ids, m.Must(enginetest.List, "tombstones", nil)["keys"])
	require.Equal(t, ids[4:9], m.Must(enginetest.List, "tombstones", map[string]any{"after": ids[3], "limit": 5})["keys"])
	require.Nil(t, m.Must(enginetest.List, "tombstones", map[string]any{"after": ids[11]})["keys"])
	m.Refused(400, "limit", enginetest.List, "tombstones", map[string]any{"limit": "x"})
	for _, id := range []string{"x", strings.ToUpper("3fa85f64-5717-4562-b3fc-2c963f66afa6"), "+", "..", strings.Repeat("a", 3000)} {
		m.Refused(400, "tenant_id", enginetest.Read, "tombstones/"+id, nil)
	}
	m.Refused(404, "shredded", enginetest.Read, "tombstones/"+enginetest.TenantID, nil)

	m.Quiesce()
	before := m.Storage.Ops()
	m.Must(enginetest.List, "tombstones", map[string]any{"limit": 3})
	require.Equal(t, before, m.Storage.Ops(), "a list that is known is read from memory")
}

// Of one ID the last 100 stay. One that cannot be read keeps no tenant from going.
func TestTombstonesOfOneIDAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		again := func() {
			m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
			enginetest.Advance(time.Second)
			m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		}
		again()
		damaged := m.Disk.Keys("tombstones/")[0]
		for range 99 {
			again()
		}
		second := tombstones(m, enginetest.TenantID)[98]["incarnation"].(string)
		m.Disk.Set(damaged, []byte("{"))
		again()
		require.Len(t, m.Disk.Keys("tombstones/"), 100)
		require.NotNil(t, m.Disk.Value(damaged))
		for _, key := range m.Disk.Keys("tombstones/") {
			require.NotContains(t, key, second, "the oldest that can be read went")
		}
		resp, err := m.Engine.HandleRequest(context.Background(), &logical.Request{Operation: enginetest.Read, Path: "tombstones/" + enginetest.TenantID, Storage: m.Storage})
		require.NoError(t, err)
		require.Len(t, resp.Data["tombstones"], 99)
		require.NotEmpty(t, resp.Warnings, "it says that there are more")
	})
}
