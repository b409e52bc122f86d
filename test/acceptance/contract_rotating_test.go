// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var (
	bigOnce   sync.Once
	bigTenant string
)

// big is a tenant of the shared stack that takes a while to rotate: 6,000 items
// on some 600 pages.
func big(t *testing.T, s *devstack.Stack) string {
	t.Helper()
	bigOnce.Do(func() {
		id := newTenant(t, s)
		var items []map[string]any
		for i := range 6000 {
			items = append(items, map[string]any{
				"kind": "secrets", "name": fmt.Sprintf("item-%d", i), "data": map[string]any{"v": text(2000)},
			})
		}
		results := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(id, "items"), map[string]any{"items": items}))
		require.Len(t, results["results"], len(items))
		bigTenant = id
	})
	require.NotEmpty(t, bigTenant)
	return bigTenant
}

// whileRotating starts a rotation of the big tenant by start, which returns its
// ID, and calls ask during it. ask sends requests and returns what is to be
// checked of the answers. If the rotation was over by then, it is done again.
func whileRotating(t *testing.T, s *devstack.Stack, start func(tenant string) string, ask func(tenant, rotationID string) func()) {
	t.Helper()
	tenant := big(t, s)
	slow(t, s)
	for range 5 {
		id := start(tenant)
		check := ask(tenant, id)
		status := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "dek/rotations", id), nil))["status"]
		waitRotation(t, s, tenant, id, "completed")
		if status == "in_progress" {
			check()
			return
		}
	}
	require.Fail(t, "no rotation lasted long enough to look at it")
}

// slow lets rotations take one page at a time for the rest of the test.
func slow(t *testing.T, s *devstack.Stack) {
	t.Helper()
	set := func(n int) {
		_, err := s.Client().Logical().Write("dek/config", map[string]any{"rotation_parallelism": n})
		require.NoError(t, err)
	}
	set(1)
	t.Cleanup(func() { set(32) })
}

// TestContractSecondRotation: 409 names the running rotation and changes nothing.
func TestContractSecondRotation(t *testing.T) {
	s := shared(t)
	start := func(tenant string) string { return rotate(t, s, tenant) }
	whileRotating(t, s, start, func(tenant, id string) func() {
		before := readDEK(t, s, tenant)
		var second []answer
		for _, body := range []any{nil, map[string]any{"idempotency_key": "another"}, map[string]any{"key_type": "aes256-gcm"}} {
			second = append(second, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), body))
		}
		after := readDEK(t, s, tenant)
		unfinished := callRoot(t, s, "LIST", "dek/rotations", nil)
		history := callRoot(t, s, "LIST", tenantPath(tenant, "dek/rotations"), nil)
		return func() {
			for _, a := range second {
				refused(t, a, http.StatusConflict, id)
				assert.Equal(t, map[string]any{"rotation_id": id}, a.data())
			}
			assert.Equal(t, before["current_key_id"], after["current_key_id"])
			assert.Len(t, after["versions"], len(versions(t, before)))
			assert.Contains(t, keys(t, unfinished), tenant+"/"+id)
			assert.Equal(t, id, keys(t, history)[0])
		}
	})
	assert.Eventually(t, func() bool {
		return callRoot(t, s, "LIST", "dek/rotations", nil).Status == http.StatusNotFound
	}, rotationLimit, rotationTick, "the list of unfinished rotations empties")
}

// TestContractRotationProgress follows a rotation: everything only grows.
func TestContractRotationProgress(t *testing.T) {
	s := shared(t)
	start := func(tenant string) string { return rotate(t, s, tenant) }
	whileRotating(t, s, start, func(tenant, id string) func() {
		var rotated, percent float64
		require.Eventually(t, func() bool {
			r := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "dek/rotations", id), nil))
			if r["status"] != "in_progress" {
				return true
			}
			rotationFields().check(t, r)
			assert.Equal(t, counts(0, 0, 6000), r["items_to_rotate"])
			now := r["items_rotated"].(map[string]any)["secrets"].(float64)
			assert.GreaterOrEqual(t, now, rotated)
			assert.GreaterOrEqual(t, r["percent"], percent)
			assert.LessOrEqual(t, r["percent"], 100.0)
			rotated, percent = now, r["percent"].(float64)
			return rotated > 600
		}, rotationLimit, time.Millisecond)
		return func() { assert.Greater(t, rotated, 600.0) }
	})
}
