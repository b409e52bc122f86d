// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/admission"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// large is a bulk write of some n MiB.
func large(n int) map[string]any {
	var items []any
	for i := range 4 * n {
		items = append(items, map[string]any{
			"kind": "secrets", "name": fmt.Sprintf("large/%d", i), "data": map[string]any{"v": strings.Repeat("v", 256<<10-1000)},
		})
	}
	return map[string]any{"items": items}
}

// Large requests beyond the bound are refused, of one tenant sooner than of others; small
// ones, reads and everything after them go on.
func TestManyLargeRequests(t *testing.T) {
	m := enginetest.WithTenant(t)
	other := "tenants/" + enginetest.TenantN(1)
	m.Must(enginetest.Update, other, nil)
	m.Must(enginetest.Update, enginetest.ItemPath("small"), enginetest.Secret("v"))
	m.Encrypted(enginetest.TenantID, "so that there is an external key")
	m.Engine.Bound = admission.New(16 << 20)

	goOn := make(chan struct{})
	m.Storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, "pages/") {
			<-goOn
		}
	})
	var all sync.WaitGroup
	var refused, taken atomic.Int64
	write := func(tenant string) {
		all.Go(func() {
			resp, err := m.Call(enginetest.Update, tenant+"/items", large(3))
			switch enginetest.Code(resp, err) {
			case 200:
				taken.Add(1)
			case 429:
				assert.Equal(t, []string{"1"}, resp.Headers["Retry-After"])
				refused.Add(1)
			default:
				t.Errorf("%v %v", resp, err)
			}
		})
	}
	for range 12 {
		write("tenants/" + enginetest.TenantID)
	}
	require.Eventually(t, func() bool { return refused.Load() == 10 }, time.Minute, time.Millisecond, "two are worked on")
	resp, err := m.Call(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": []any{
		map[string]any{"plaintext": enginetest.Encoded(strings.Repeat("x", 700<<10))},
		map[string]any{"plaintext": enginetest.Encoded(strings.Repeat("x", 700<<10))},
		map[string]any{"plaintext": enginetest.Encoded(strings.Repeat("x", 700<<10))},
	}})
	require.Equal(t, 429, enginetest.Code(resp, err))
	require.ErrorContains(t, err, "too many large requests")
	require.Equal(t, enginetest.Secret("v")["data"], m.Must(enginetest.Read, enginetest.ItemPath("small"), nil)["data"])
	m.Encrypted(enginetest.TenantID, "a small one")
	write(other) // another tenant has its part
	close(goOn)
	all.Wait()
	require.EqualValues(t, 10, refused.Load())
	require.EqualValues(t, 3, taken.Load())
	m.Must(enginetest.Update, enginetest.TenantPath("/items"), large(7))
}

// A request that is refused, or fails, gives its bytes back.
func TestRefusedLargeRequestsGiveTheirBytesBack(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Engine.Bound = admission.New(16 << 20)
	for range 20 {
		m.Refused(400, "items must be", enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": strings.Repeat("x", 7<<20)})
		m.Refused(413, "max_item_bytes", logical.UpdateOperation, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("x", 1<<20)))
		m.Refused(400, "UTF-8", enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("x", 7<<20)+"\xff"))
	}
	m.Must(enginetest.Update, enginetest.TenantPath("/items"), large(3))
}

// The answers of reads of many items count as large requests do.
func TestManyLargeAnswers(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.TenantPath("/items"), large(3))
	var names []any
	for i := range 12 {
		names = append(names, map[string]any{"kind": "secrets", "name": fmt.Sprintf("large/%d", i)})
	}
	read := map[string]any{"items": names}

	m.Engine.Bound = admission.New(2 << 20) // an answer has 3 MiB
	resp, err := m.Call(enginetest.Update, enginetest.TenantPath("/items/read"), read)
	require.Equal(t, 429, enginetest.Code(resp, err))
	require.Equal(t, []string{"1"}, resp.Headers["Retry-After"])
	results := m.Must(enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": names[:1]})["results"]
	require.Len(t, results, 1)
	require.Equal(t, 200, enginetest.Code(m.Call(enginetest.Read, enginetest.ItemPath("large/1"), nil)))

	m.Engine.Bound = admission.New(4 << 20)
	for range 5 { // each gives its room back
		require.Len(t, m.Must(enginetest.Update, enginetest.TenantPath("/items/read"), read)["results"], 12)
	}
}
