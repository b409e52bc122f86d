// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestHolders(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		require.Nil(t, m.Must(enginetest.List, enginetest.TenantPath("/holders"), nil)["keys"])
		created := m.Must(enginetest.Update, enginetest.HolderPath("orders/card"), map[string]any{"description": "the table orders", "backups_kept": "30d"})
		require.Equal(t, map[string]any{
			"name": "orders/card", "description": "the table orders", "backups_kept": int64(30 * 86400), "oldest_version": nil,
			"counts": map[string]any{}, "scan_started_at": nil, "reported_at": nil, "reported_by": nil,
		}, created)
		require.Equal(t, created, m.Must(enginetest.Read, enginetest.HolderPath("orders/card"), nil))
		changed := m.Must(enginetest.Update, enginetest.HolderPath("orders/card"), map[string]any{"backups_kept": 60})
		require.Equal(t, []any{"the table orders", int64(60)}, []any{changed["description"], changed["backups_kept"]}, "what is not named stays")
		m.Must(enginetest.Update, enginetest.HolderPath("bucket"), nil)
		m.Must(enginetest.Update, enginetest.HolderPath("report"), nil)
		require.Equal(t, []string{"bucket", "orders/card", "report"}, m.Must(enginetest.List, enginetest.TenantPath("/holders/"), nil)["keys"])
		require.Equal(t, []string{"orders/card"}, m.Must(enginetest.List, enginetest.TenantPath("/holders"), map[string]any{"after": "bucket", "limit": 1})["keys"])

		m.Encrypted(enginetest.TenantID, "x")
		m.Rotated(nil)
		scan := m.Must(enginetest.Update, enginetest.HolderPath("orders/card/report/start"), nil)["scan_started_at"]
		require.Equal(t, time.Now().UTC().Format(time.RFC3339Nano), scan)
		reported := m.Must(enginetest.Update, enginetest.HolderPath("orders/card/report"), map[string]any{
			"oldest_version": 1, "counts": map[string]any{"1": 7, "2": 12, "3": 0}, "scan_started_at": scan,
		})
		require.Equal(t, reported, m.Must(enginetest.Read, enginetest.HolderPath("orders/card"), nil))
		require.Equal(t, []any{1, map[string]any{"1": int64(7), "2": int64(12)}, scan, time.Now().UTC().Format(time.RFC3339Nano)},
			[]any{reported["oldest_version"], reported["counts"], reported["scan_started_at"], reported["reported_at"]})
		require.Equal(t, "root", reported["reported_by"].(map[string]any)["id"])

		m.Must(enginetest.Delete, enginetest.HolderPath("bucket"), nil)
		m.Refused(404, "holder not found", enginetest.Read, enginetest.HolderPath("bucket"), nil)
		m.Refused(404, "holder not found", enginetest.Delete, enginetest.HolderPath("bucket"), nil)
	})
}

func TestHoldersAreRefused(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		const other = "tenants/00000000-0000-4000-8000-000000000009/holders/x"
		m.Refused(404, "tenant not found", enginetest.Read, other, nil)
		m.Refused(404, "tenant not found", enginetest.Update, other, nil)
		m.Refused(404, "tenant not found", enginetest.Delete, other, nil)
		for _, name := range []string{"a//b", "../a", "a/./b", "ü", "a b", strings.Repeat("x", 257)} {
			m.Refused(400, "name must", enginetest.Update, enginetest.HolderPath(name), nil)
		}
		for field, values := range map[string][]any{
			"description":  {7, strings.Repeat("x", 513), "a\nb", "\uFFFD"},
			"backups_kept": {"", "x", -1, "3651d", 0.5},
		} {
			for _, value := range values {
				m.Refused(400, field, enginetest.Update, enginetest.HolderPath("a"), map[string]any{field: value})
			}
		}
		m.Refused(404, "holder not found", enginetest.Update, enginetest.HolderPath("a/report"), map[string]any{"oldest_version": 1})
		m.Refused(404, "holder not found", enginetest.Update, enginetest.HolderPath("a/report/start"), nil)

		m.Must(enginetest.Update, enginetest.HolderPath("a"), nil)
		m.Must(enginetest.Update, enginetest.HolderPath("b"), nil)
		m.Rotated(nil) // nothing has left under version 1, so it is destroyed
		m.Encrypted(enginetest.TenantID, "x")
		m.Rotated(nil)
		ofB := m.Must(enginetest.Update, enginetest.HolderPath("b/report/start"), nil)["scan_started_at"]
		for name, c := range map[string]struct {
			message string
			data    map[string]any
		}{
			"no version":        {"oldest_version must be from 1", nil},
			"version 0":         {"oldest_version must be from 1 to 3", map[string]any{"oldest_version": 0}},
			"a destroyed one":   {"destroyed", map[string]any{"oldest_version": 1}},
			"one to come":       {"oldest_version must be from 1 to 3", map[string]any{"oldest_version": 4}},
			"no number":         {"oldest_version must be", map[string]any{"oldest_version": "x"}},
			"a fraction":        {"oldest_version must be", map[string]any{"oldest_version": 1.5}},
			"no map":            {"counts must be", map[string]any{"oldest_version": 2, "counts": []any{1}}},
			"no version in it":  {"counts must have versions", map[string]any{"oldest_version": 2, "counts": map[string]any{"x": 1}}},
			"a negative count":  {"counts must have whole numbers", map[string]any{"oldest_version": 2, "counts": map[string]any{"2": -1}}},
			"an unknown one":    {"counts must name versions", map[string]any{"oldest_version": 2, "counts": map[string]any{"4": 1}}},
			"one below":         {"oldest_version must be the least", map[string]any{"oldest_version": 3, "counts": map[string]any{"2": 1}}},
			"no time":           {"scan_started_at must be", map[string]any{"oldest_version": 2, "scan_started_at": "today"}},
			"a caller's time":   {"scan_started_at must be", map[string]any{"oldest_version": 2, "scan_started_at": "2000-01-01T00:00:00Z"}},
			"a time to come":    {"scan_started_at must be", map[string]any{"oldest_version": 2, "scan_started_at": "2100-01-01T00:00:00Z"}},
			"another's scan":    {"scan_started_at must be", map[string]any{"oldest_version": 2, "scan_started_at": ofB}},
			"a time of no type": {"scan_started_at must be", map[string]any{"oldest_version": 2, "scan_started_at": 7}},
		} {
			t.Run(name, func(*testing.T) {
				m.Refused(400, c.message, enginetest.Update, enginetest.HolderPath("a/report"), c.data)
			})
		}
		m.Refused(400, "follow_holders must be", enginetest.Update, enginetest.TenantPath("/dek/config"), map[string]any{"follow_holders": "maybe"})

		for n := range 62 {
			m.Must(enginetest.Update, enginetest.HolderPath("more/"+strings.Repeat("x", n+1)), nil)
		}
		m.Refused(409, "at most 64 holders", enginetest.Update, enginetest.HolderPath("one-more"), nil)

		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "24h"})
		m.Refused(404, "being deleted", enginetest.Update, enginetest.HolderPath("a/report/start"), nil)
		m.Refused(404, "being deleted", enginetest.List, enginetest.TenantPath("/holders"), nil)
	})
}

func TestAReportMayBeRepeated(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, enginetest.HolderPath("a"), nil)
		scan := m.Must(enginetest.Update, enginetest.HolderPath("a/report/start"), nil)["scan_started_at"]
		report := map[string]any{"oldest_version": 1, "counts": map[string]any{"1": 3}, "scan_started_at": scan}
		first := m.Must(enginetest.Update, enginetest.HolderPath("a/report"), report)
		m.Unchanged(func() {
			enginetest.Advance(time.Minute)
			require.Equal(t, first, m.Must(enginetest.Update, enginetest.HolderPath("a/report"), report))
		})
	})
}
