// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// fleet reads a part of the fleet, and the display names of its tenants.
func fleet(m *enginetest.Mount, data map[string]any) (answer map[string]any, names []any) {
	m.T.Helper()
	answer = m.Must(enginetest.Read, "fleet", data)
	for _, one := range answer["tenants"].([]map[string]any) {
		names = append(names, one["display_name"])
	}
	return answer, names
}

func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		synctest.Wait()
		answer, names := fleet(m, nil)
		require.Empty(t, names)
		require.Len(t, answer, 3)

		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
		for n, data := range []map[string]any{
			{"display_name": "Acme"},
			{"display_name": "acme two", "rotation_interval": "90_DAYS"},
			{"display_name": "Zoë", "rotation_paused": true},
			{},
		} {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), data)
		}
		answer, _ = fleet(m, map[string]any{"search": "zo"})
		inList := infoOf(t, m.Must(enginetest.List, "tenants", map[string]any{"detailed": true, "limit": 10}), enginetest.TenantN(2))
		inList["tenant_id"] = enginetest.TenantN(2)
		require.Equal(t, []map[string]any{inList}, answer["tenants"])

		_, names = fleet(m, map[string]any{"sort": "name"})
		require.Equal(t, []any{"Acme", "acme two", "Zoë", ""}, names)
		_, names = fleet(m, map[string]any{"sort": "name", "limit": 2, "after": enginetest.TenantN(1)})
		require.Equal(t, []any{"Zoë", ""}, names)
		enginetest.Advance(100 * enginetest.Day)
		answer, names = fleet(m, map[string]any{"state": "overdue"})
		require.Equal(t, []any{"acme two"}, names)
		require.Equal(t, true, answer["tenants"].([]map[string]any)[0]["overdue"])
		ages, due := answer["key_ages"].([]map[string]any), answer["due_by_week"].([]map[string]any)
		require.Equal(t, map[string]any{"from_days": 90, "to_days": 120, "tenants": 4}, ages[3])
		require.Nil(t, ages[len(ages)-1]["to_days"])
		require.Len(t, due, 54)
		now := time.Now().UTC()
		require.Equal(t, map[string]any{"from": nil, "to": now.Format(time.RFC3339Nano), "tenants": 1}, due[0])
		require.Equal(t, now.AddDate(0, 0, 7).Format(time.RFC3339Nano), due[1]["to"])
		require.Nil(t, due[53]["to"])

		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(0), map[string]any{"display_name": "renamed"})
		m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(3), map[string]any{"deletion_window": "720h"})
		_, names = fleet(m, map[string]any{"search": "ren"})
		require.Equal(t, []any{"renamed"}, names)
		_, names = fleet(m, map[string]any{"state": "deleting"})
		require.Equal(t, []any{""}, names)

		m.Close()
		again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer again.Close()
		synctest.Wait()
		_, names = fleet(again, map[string]any{"sort": "name"})
		require.Equal(t, []any{"acme two", "renamed", "Zoë", ""}, names, "after a start")
	})
}

func TestFleetRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, c := range []struct {
		field string
		value any
	}{
		{"state", "active"},
		{"state", 1},
		{"state", "overdue "},
		{"sort", "size"},
		{"sort", []any{"name"}},
		{"limit", 0},
		{"limit", -1},
		{"limit", 1001},
		{"limit", 1.5},
		{"limit", "x"},
		{"limit", 1e300},
		{"after", "x"},
		{"after", enginetest.OtherTenant},
		{"after", strings.ToUpper(enginetest.TenantID)},
		{"after", 7},
		{"search", strings.Repeat("a", 513)},
		{"search", "a\x00"},
		{"search", 7},
		{"search", map[string]any{}},
	} {
		m.Refused(400, c.field, enginetest.Read, "fleet", map[string]any{c.field: c.value})
	}
	fleet(m, map[string]any{"search": strings.Repeat("é", 256), "limit": "1000", "after": enginetest.TenantID})
}

// Until every record has been read, the answer says that tenants are missing.
func TestFleetSaysThatItIsIncomplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Close()
		again := enginetest.Conditions{}.Open(t, m.Disk, 0, storagetest.None)
		defer again.Close()
		again.Storage.Fail(enginetest.FailOn("list", "tenants/", storagetest.Before)) // before it begins to read
		again.Start()
		synctest.Wait()
		resp, err := again.Call(enginetest.Read, "fleet", nil)
		require.Equal(t, 200, enginetest.Code(resp, err))
		require.NotEmpty(t, resp.Warnings)
		again.Storage.Fail(nil)
		enginetest.Advance(time.Minute)
		resp, err = again.Call(enginetest.Read, "fleet", nil)
		require.Equal(t, 200, enginetest.Code(resp, err))
		require.Empty(t, resp.Warnings)
		require.Len(t, resp.Data["tenants"], 1)
	})
}
