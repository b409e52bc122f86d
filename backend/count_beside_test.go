// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// More tenants than are counted at once have pages that do not show, which are settled
// under their locks, while others write to them and rotate them: nobody waits for ever.
func TestCountingBesideWritesOfHiddenPages(t *testing.T) {
	m := newMount(t)
	t.Cleanup(m.close)
	const tenants = 48
	for n := range tenants {
		m.must(update, "tenants/"+tenantN(n), nil)
	}
	m.storage.Fail(on("put", "pages/", storagetest.AfterStale))
	for n := range tenants {
		resp, err := m.call(update, "tenants/"+tenantN(n)+"/secrets/x", secret("lost"))
		require.Equal(t, 500, code(resp, err))
	}
	m.storage.Fail(nil)
	var wg sync.WaitGroup
	for n := range tenants {
		path := "tenants/" + tenantN(n)
		for _, r := range []request{
			{op: read, path: path},
			{op: read, path: path + "/dek"},
			{op: update, path: path + "/dek/rotate"},
			{op: update, path: path + "/secrets/y", data: secret(fmt.Sprint(n))},
		} {
			wg.Go(func() {
				resp, err := m.call(r.op, r.path, r.data)
				assert.Equal(t, 200, code(resp, err), "%s %s: %v", r.op, r.path, err)
			})
		}
	}
	wg.Wait()
	for n := range tenants {
		require.Equal(t, fmt.Sprint(n), m.must(read, "tenants/"+tenantN(n)+"/secrets/y", nil)["data"].(map[string]any)["value"])
	}
}
