// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// However many tenants there are, status counts them all and names the first.
func TestStatusOfManyTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		const tenants = 520
		for n := range tenants {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		require.Equal(t, 0, m.Must(enginetest.Read, "status", nil)["due_within_7d"])
		enginetest.Advance(360 * enginetest.Day)
		st := m.Must(enginetest.Read, "status", nil)
		require.Equal(t, tenants, st["due_within_7d"])
		require.EqualValues(t, (360 * enginetest.Day).Seconds(), st["oldest_key_age"])
		enginetest.Advance(10 * enginetest.Day)
		before := len(m.Storage.Log())
		st = m.Must(enginetest.Read, "status", nil)
		for _, op := range m.Storage.Log()[before:] {
			require.NotContains(t, op, "tenants/", "it counts from memory")
		}
		require.Less(t, len(m.Storage.Log())-before, 10)
		require.Equal(t, tenants, st["overdue"])
		require.Len(t, st["overdue_tenants"], 100)
	})
}
