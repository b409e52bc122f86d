// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestTenantIntervals(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, c := range []struct {
		given any
		kept  string
	}{
		{"90_DAYS", "90_DAYS"},
		{"365_DAYS", "365_DAYS"},
		{"90d", "90d"},
		{"30d", "30d"},
		{"1h", "1h"},
		{"720h", "30d"},
		{"36h", "36h"},
		{"5400", "90m"},
		{5400, "90m"},
		{"1h0m1s", "3601s"},
		{"1.5h", "90m"},
		{"3650d", "3650d"},
		{"87600h", "3650d"},
		{"", ""},
	} {
		answer := m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": c.given})
		require.Equal(t, c.kept, answer["rotation_interval"], "%v", c.given)
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": "a tenant"})
		kept := m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["rotation_interval"]
		require.Equal(t, c.kept, kept)
		again := m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": kept})
		require.Equal(t, c.kept, again["rotation_interval"], "what was read can be written")
	}
	m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": "48h"})
	for _, given := range []any{
		"59m59s", "3599", 3599, "3651d", "3650d1s", "87601h", "0", 0, "-30d", "-1h", -3600, "1.5d", "1.5s", "3600.5", 3600.5,
		"30D", "30 d", " 30d", "30d ", "d", "30_DAYS", "90_days", "90_DAYS ", "+90_DAYS", "３０d", "30đ", "thirty", "1e5", "0x1000",
		"9223372036854775807", "99999999999999999999d", "106751991167300d", 1e300, strings.Repeat("9", 500), true, "NaN", "Inf",
		[]any{"30d"},
		map[string]any{},
		"P30D", "1h\x00",
	} {
		m.Refused(400, "rotation_interval", enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": given})
	}
	require.Equal(t, "2d", m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["rotation_interval"])

	// The organization's is one of the four.
	m.Refused(400, "rotation_interval", enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "30d"})
}

// A tenant's own interval counts from when its key took over, and is spread over at most
// a tenth of it, whatever scheduler_jitter is.
func TestOwnIntervalIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": "30d"})
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": "10h"})
		created := time.Now()
		due := m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["next_rotation_at"]
		require.Equal(t, created.Add(10*time.Hour).UTC().Format(time.RFC3339Nano), due)
		m.Hourly(9 * time.Hour)
		require.Equal(t, 1, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"])
		m.Hourly(3 * time.Hour)
		require.Equal(t, 2, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"])

		// Longer: it holds from the next look on.
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": "3650d"})
		m.Hourly(48 * time.Hour)
		require.Equal(t, 2, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"])
		require.Equal(t, 0, m.Must(enginetest.Read, "status", nil)["overdue"])
	})
}
