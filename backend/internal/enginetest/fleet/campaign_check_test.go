// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// known is the tenant's record as the engine reads it, nil if there is none.
func (m *emergency) known() *tenant.Record {
	r, err := m.Engine.Tenants.ReadStored(context.Background(), enginetest.TenantID)
	if errors.Is(err, tenant.ErrNotFound) || err == nil && r.State == tenant.Shredding {
		return nil
	}
	require.NoError(m.T, err)
	return r
}

// check drops what was served: by a rotation that started after the answer, and
// completed. While anything is left, status must name the tenant.
func (m *emergency) check(named func(*tenant.Record)) {
	m.T.Helper()
	r := m.known()
	if r == nil {
		m.owed = nil
		return
	}
	history, err := m.Engine.Rotations.All(context.Background(), r)
	require.NoError(m.T, err)
	m.owed = slices.DeleteFunc(m.owed, func(d demand) bool {
		return slices.ContainsFunc(history, func(done *tenant.Rotation) bool {
			return done.Phase == tenant.Completed && !done.StartedAt.Before(d.at)
		})
	})
	if len(m.owed) > 0 {
		named(r)
	}
}

// namedAnyhow checks that status names the tenant, for whatever reason.
func (m *emergency) namedAnyhow(*tenant.Record) {
	m.T.Helper()
	st := m.Must(enginetest.Read, "status", nil)
	_, blocked := st["blocked_tenants"].(map[string]string)[enginetest.TenantID]
	require.True(m.T, blocked || slices.Contains(st["overdue_tenants"].([]string), enginetest.TenantID), "%v", st)
}

// named checks that status names the tenant, with a reason that is true.
func (m *emergency) named(r *tenant.Record) {
	m.T.Helper()
	st := m.Must(enginetest.Read, "status", nil)
	why, blocked := st["blocked_tenants"].(map[string]string)[enginetest.TenantID]
	include := slices.ContainsFunc(m.owed, func(d demand) bool { return d.includePaused })
	paused := r.RotationPaused && !include && r.Rotation == nil
	in := func(field string) bool { return slices.Contains(st[field].([]string), enginetest.TenantID) }
	if !paused && r.State == tenant.Active {
		require.True(m.T, in("overdue_tenants"), "%v\n%+v\n%s", st, r, m.Disk.Value("settings"))
	}
	switch {
	case r.State == tenant.Deleting:
		require.Contains(m.T, why, "being deleted")
	case r.Rotation != nil && r.Rotation.Paused:
		require.Contains(m.T, why, "its rotation is paused")
	case r.Rotation != nil:
		require.False(m.T, blocked, why)
		require.Equal(m.T, 1, st["rotations_active"])
	case strings.Contains(why, "rotation_paused"):
		require.True(m.T, paused)
		require.True(m.T, in("paused_tenants"))
	case strings.Contains(why, "failed"):
		require.Equal(m.T, tenant.Failed, r.Last.Phase)
		m.waits(r, why)
	case strings.Contains(why, "cancelled"):
		require.Equal(m.T, tenant.RolledBack, r.Last.Phase)
		m.waits(r, why)
	case blocked:
		require.Fail(m.T, "a reason that is not true", why)
	case paused:
		require.True(m.T, in("paused_tenants"), "an older request may include it")
	}
}

// waits checks that what was tried last was for the latest request.
func (m *emergency) waits(r *tenant.Record, why string) {
	m.T.Helper()
	require.Contains(m.T, why, r.RotateAfter.Add(time.Second-1).Truncate(time.Second).UTC().Format(time.RFC3339))
	require.False(m.T, r.Last.StartedAt.Before(m.owed[len(m.owed)-1].at), "it waits, and nothing was tried")
}
