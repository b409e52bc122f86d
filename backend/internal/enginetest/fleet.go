// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Failing is a tenant with a page that does not open, whose rotation has just
// failed for the first time.
func Failing(t *testing.T) *Oracle {
	t.Helper()
	w := NewOracle(NewMount(t))
	w.Must(Update, "config", map[string]any{"scheduler_jitter": 0})
	w.Must(Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	w.Create()
	w.Put("a", "1")
	w.Damage()
	w.Daily(90 * Day)
	w.Hourly(time.Hour)
	require.Equal(t, "failed", w.Latest()["status"])
	return w
}

// Latest returns the tenant's latest rotation.
func (w *Oracle) Latest() map[string]any { return w.RotationsOf(TenantID)[0] }

// Day is what a day takes if no clock is put forward or back.
const Day = 24 * time.Hour

// TenantN returns the ID of the nth of many tenants.
func TenantN(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

// RotationsOf returns a tenant's rotations, newest first.
func (m *Mount) RotationsOf(id string) []map[string]any {
	m.T.Helper()
	keys, _ := m.Must(List, "tenants/"+id+"/dek/rotations", nil)["keys"].([]string)
	var all []map[string]any
	for _, k := range keys {
		all = append(all, m.Must(Read, "tenants/"+id+"/dek/rotations/"+k, nil))
	}
	return all
}

// Hourly lets time pass with a tick an hour.
func (m *Mount) Hourly(d time.Duration) { m.every(time.Hour, d) }

// Daily lets time pass with a tick a day: for long times in which nothing is due.
func (m *Mount) Daily(d time.Duration) { m.every(Day, d) }

func (m *Mount) every(pause, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		Advance(pause - time.Minute)
		m.Tick()
	}
}
