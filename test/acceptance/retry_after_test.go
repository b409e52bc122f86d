// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Vault passes the header on, since bootstrap.sh has the mount allow it.
func TestRetryAfterReachesTheCaller(t *testing.T) {
	s := shared(t)
	tune := succeeded(t, callRoot(t, s, http.MethodGet, "sys/mounts/dek/tune", nil))
	require.Contains(t, tune["allowed_response_headers"], "Retry-After")

	tenant := newTenant(t, s)
	limit := func(n int) {
		a := callRoot(t, s, http.MethodPost, "dek/config", map[string]any{"manual_rotations_per_hour": n})
		require.Less(t, a.Status, 300, a.errors())
	}
	limit(1)
	defer limit(60)
	rotate := tenantPath(tenant, "dek/rotate")
	id := succeeded(t, callRoot(t, s, http.MethodPost, rotate, nil))["rotation_id"].(string)
	waitRotation(t, s, tenant, id, "completed")
	a := callRoot(t, s, http.MethodPost, rotate, nil)
	require.Equal(t, http.StatusTooManyRequests, a.Status, a.errors())
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	assert.NoError(t, err)
	assert.Positive(t, seconds)
}
