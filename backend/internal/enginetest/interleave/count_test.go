// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// More tenants than are counted at once have pages that do not show, which are settled
// under their locks, while others write to them and rotate them: nobody waits for ever.
func TestCountingBesideWritesOfHiddenPages(t *testing.T) {
	m := enginetest.NewMount(t)
	t.Cleanup(m.Close)
	const tenants = 48
	for n := range tenants {
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
	}
	m.Storage.Fail(enginetest.FailOn("put", "pages/", storagetest.AfterStale))
	for n := range tenants {
		resp, err := m.Call(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/secrets/x", enginetest.Secret("lost"))
		require.Equal(t, 500, enginetest.Code(resp, err))
	}
	m.Storage.Fail(nil)
	var wg sync.WaitGroup
	for n := range tenants {
		path := "tenants/" + enginetest.TenantN(n)
		for _, r := range []enginetest.Request{
			{Op: enginetest.Read, Path: path},
			{Op: enginetest.Read, Path: path + "/dek"},
			{Op: enginetest.Update, Path: path + "/dek/rotate"},
			{Op: enginetest.Update, Path: path + "/secrets/y", Data: enginetest.Secret(fmt.Sprint(n))},
		} {
			wg.Go(func() {
				resp, err := m.Call(r.Op, r.Path, r.Data)
				assert.Equal(t, 200, enginetest.Code(resp, err), "%s %s: %v", r.Op, r.Path, err)
			})
		}
	}
	wg.Wait()
	for n := range tenants {
		require.Equal(t, fmt.Sprint(n), m.Must(enginetest.Read, "tenants/"+enginetest.TenantN(n)+"/secrets/y", nil)["data"].(map[string]any)["value"])
	}
}
