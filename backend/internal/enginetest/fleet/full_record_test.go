// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// fillRecord adds deactivated versions to a tenant's record until it is full.
func fillRecord(m *enginetest.Mount, id string) {
	m.T.Helper()
	ctx := context.Background()
	t, err := m.Engine.Tenants.Read(ctx, id)
	require.NoError(m.T, err)
	next := t.Clone()
	for full := false; !full; {
		n := next.Keys.Add(keyring.Version{KeyID: "dek-gone", KeyType: keyring.XAES256GCM, CreatedAt: time.Now()})
		next.Keys.Find(n).State = keyring.Deactivated
		full = !next.Clone().Keys.MakeRoom()
	}
	require.NoError(m.T, m.Engine.Tenants.Hold(ctx, t.ID, func(h *tenant.Held) error { return h.Put(ctx, next) }))
}

// While everyone is to be rotated, one that cannot be does not keep the schedule
// busy between two ticks.
func TestEveryoneButOneWhoseRecordIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		fillRecord(m, enginetest.TenantID)
		enginetest.Advance(time.Hour)
		m.Tick()
		m.Storage.Hook(func(string, string) { <-time.After(time.Millisecond) })
		before := m.Storage.Ops()
		m.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})
		enginetest.Advance(30 * time.Second)
		require.Less(t, m.Storage.Ops()-before, 1000, "operations of storage between two ticks")
		m.Storage.Hook(nil)
		require.Equal(t, 1, m.Must(enginetest.Read, "status", nil)["overdue"])
	})
}

// Nor does one whose pages cannot be listed.
func TestEveryoneButOneWhosePagesCannotBeListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithForeignEntry(t)
		defer w.Close()
		enginetest.Advance(time.Hour)
		w.Storage.Hook(func(string, string) { <-time.After(time.Millisecond) })
		before := w.Storage.Ops()
		w.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})
		enginetest.Advance(30 * time.Second)
		require.Less(t, w.Storage.Ops()-before, 1000, "operations of storage between two ticks")
	})
}

// Whom the schedule cannot rotate since there is no room is told of in the log, once
// in a round: nothing else says why the tenant is overdue.
func TestScheduleTellsOfAFullRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(enginetest.Logged)
		m := enginetest.Conditions{Log: log.Logger()}.Open(t, storagetest.NewDisk(), 0, storagetest.None)
		m.Start()
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		fillRecord(m, enginetest.TenantID)
		m.Must(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantID}})
		enginetest.Advance(time.Second)
		lines := log.Lines("there is no room for another")
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], enginetest.TenantID)
	})
}
