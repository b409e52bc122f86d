// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// A request that names many tenants writes many of their records at a time: one after the
// other they would take longer than a request may.
func TestNamedTenantsAreAskedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		var ids []any
		for n := range 40 {
			ids = append(ids, enginetest.TenantN(n))
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		m.Quiesce()
		const together = 8 // fewer than 40, since tenants share locks
		var waiting atomic.Int32
		enough := make(chan struct{})
		m.Storage.Hook(func(op, key string) {
			if op != "put" || !strings.HasPrefix(key, "tenants/") {
				return
			}
			if waiting.Add(1) == together {
				close(enough)
			}
			<-enough // for good, if they come one by one
		})
		answer := m.Must(enginetest.Update, "rotations", map[string]any{"tenants": ids})
		require.Equal(t, len(ids), answer["scheduled"])
		m.Storage.Hook(nil)
	})
}
