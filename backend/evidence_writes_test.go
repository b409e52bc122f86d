// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A rotation of a small tenant gets at most one more storage write for its evidence:
// batches are shared by the tenants that rotate at the same time.
func TestEvidenceCostsASmallRotationOneWrite(t *testing.T) {
	const tenants = 200
	m := newMount(t)
	defer m.close()
	for n := range tenants {
		m.must(update, "tenants/"+tenantN(n), nil)
		m.must(update, "tenants/"+tenantN(n)+"/secrets/a", secret("x"))
	}
	m.destroyAtOnce()
	m.storage.Hook(func(op, _ string) {
		if op == "put" || op == "delete" {
			<-time.After(time.Millisecond) // as a disk takes it
		}
	})
	before := len(m.storage.Log())
	m.must(update, "rotations", map[string]any{"all": true, "reason": "leak"})
	require.Eventually(t, func() bool {
		s := m.must(read, "status", nil)
		return s["overdue"] == 0 && s["rotations_active"] == 0 && m.b.jobs.Idle()
	}, time.Minute, 20*time.Millisecond)
	m.storage.Hook(nil)
	writes := map[string]int{}
	for _, line := range m.storage.Log()[before:] {
		if op, key, _ := strings.Cut(line, " "); op == "put" || op == "delete" {
			family, _, _ := strings.Cut(key, "/")
			writes[family]++
			writes["all"]++
		}
	}
	for n := range tenants {
		require.Len(t, m.rotationsOf(tenantN(n)), 1)
	}
	for family, n := range writes {
		t.Logf("%s: %.2f writes a rotation", family, float64(n)/tenants)
	}
	require.LessOrEqual(t, writes["evidence"], tenants, "writes of the evidence log, of %d rotations", tenants)
	m.verified()
}
