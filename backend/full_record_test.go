// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// fillRecord adds deactivated versions to a tenant's record until it is full.
func (m *mount) fillRecord() {
	m.t.Helper()
	ctx := context.Background()
	t, err := m.b.Tenants.Read(ctx, testTenant)
	require.NoError(m.t, err)
	next := t.Clone()
	for full := false; !full; {
		n := next.Keys.Add(keyring.Version{KeyID: "dek-gone", KeyType: keyring.XAES256GCM, CreatedAt: time.Now()})
		next.Keys.Find(n).State = keyring.Deactivated
		full = !next.Clone().Keys.MakeRoom()
	}
	require.NoError(m.t, m.b.Tenants.Hold(ctx, t.ID, func(h *tenant.Held) error { return h.Put(ctx, next) }))
}

// While everyone is to be rotated, one that cannot be does not keep the schedule
// busy between two ticks.
func TestEveryoneButOneWhoseRecordIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		m.fillRecord()
		advance(time.Hour)
		m.tick()
		m.storage.Hook(func(string, string) { <-time.After(time.Millisecond) })
		before := m.storage.Ops()
		m.must(update, "rotations", map[string]any{"all": true, "reason": "leak"})
		advance(30 * time.Second)
		require.Less(t, m.storage.Ops()-before, 1000, "operations of storage between two ticks")
		m.storage.Hook(nil)
		require.Equal(t, 1, m.must(read, "status", nil)["overdue"])
	})
}

// Nor does one whose pages cannot be listed.
func TestEveryoneButOneWhosePagesCannotBeListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withJunk(t)
		defer w.close()
		advance(time.Hour)
		w.storage.Hook(func(string, string) { <-time.After(time.Millisecond) })
		before := w.storage.Ops()
		w.must(update, "rotations", map[string]any{"all": true, "reason": "leak"})
		advance(30 * time.Second)
		require.Less(t, w.storage.Ops()-before, 1000, "operations of storage between two ticks")
	})
}

// Whom the schedule cannot rotate since there is no room is told of in the log, once
// in a round: nothing else says why the tenant is overdue.
func TestScheduleTellsOfAFullRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logged)
		m := conditions{log: log.logger()}.engine(t, storagetest.NewDisk(), 0, storagetest.None)
		m.start()
		defer m.close()
		m.must(update, tenantPath(""), nil)
		m.fillRecord()
		m.must(update, "rotations", map[string]any{"tenants": []any{testTenant}})
		advance(time.Second)
		require.Len(t, log.lines("there is no room for another"), 1)
	})
}
