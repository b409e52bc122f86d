// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// A rotation of a small tenant gets at most one more storage write for its evidence:
// batches are shared by the tenants that rotate at the same time. How many do is for the
// machine to say, which may be busy: the fewest writes count.
func TestEvidenceCostsASmallRotationOneWrite(t *testing.T) {
	const tenants = 200
	writes := rotateAll(t, tenants)
	for tries := 1; tries < 10 && writes["evidence"] > tenants; tries++ {
		writes = rotateAll(t, tenants)
	}
	for family, n := range writes {
		t.Logf("%s: %.2f writes a rotation", family, float64(n)/tenants)
	}
	require.LessOrEqual(t, writes["evidence"], tenants, "writes of the evidence log, of %d rotations", tenants)
}

// rotateAll rotates so many small tenants at once, and counts the storage writes by what they
// are of.
func rotateAll(t *testing.T, tenants int) (writes map[string]int) {
	t.Helper()
	m := enginetest.NewMount(t)
	defer m.Close()
	for n := range tenants {
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/secrets/a", enginetest.Secret("x"))
	}
	m.DestroyAtOnce()
	m.Storage.Hook(func(op, _ string) {
		if op == "put" || op == "delete" {
			<-time.After(time.Millisecond) // as a disk takes it
		}
	})
	before := len(m.Storage.Log())
	m.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})
	require.Eventually(t, func() bool {
		s := m.Must(enginetest.Read, "status", nil)
		return s["overdue"] == 0 && s["rotations_active"] == 0 && m.Engine.Jobs.Idle()
	}, time.Minute, 20*time.Millisecond)
	m.Storage.Hook(nil)
	writes = map[string]int{}
	for _, line := range m.Storage.Log()[before:] {
		if op, key, _ := strings.Cut(line, " "); op == "put" || op == "delete" {
			family, _, _ := strings.Cut(key, "/")
			writes[family]++
			writes["all"]++
		}
	}
	for n := range tenants {
		require.Len(t, m.RotationsOf(enginetest.TenantN(n)), 1)
	}
	m.Verified()
	return writes
}
