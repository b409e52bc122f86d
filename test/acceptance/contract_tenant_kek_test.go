// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestContractTenantKEK has one tenant's keys under a key of a real Vault's transit engine,
// takes that key away, and looks at the others.
func TestContractTenantKEK(t *testing.T) {
	t.Parallel() // it waits for leases
	s := shared(t)
	mount := withMount(t, s)
	f := newCrowd(t, s, mount, 3)
	owner := newTransitOwner(t, s)
	provider := mount + "/providers/owner"
	body := owner.provider()
	body["tenants"] = []string{f.ids[0]}
	succeeded(t, callRoot(t, s, http.MethodPut, provider, body))
	refused(t, f.call(t, 1, http.MethodPut, "/kek/rotate", map[string]any{"provider": "owner"}), http.StatusBadRequest, "tenants")
	kek := func() map[string]any { return succeeded(t, f.call(t, 0, http.MethodGet, "/kek", nil)) }
	move := func(under string) {
		t.Helper()
		succeeded(t, f.call(t, 0, http.MethodPut, "/kek/rotate", map[string]any{"provider": under}))
		require.Eventually(t, func() bool { return kek()["status"] == "completed" }, time.Minute, 50*time.Millisecond)
		require.Equal(t, []any{under, 0.0}, []any{kek()["provider"], kek()["keys_failed"]})
	}
	move("owner")
	f.opens(t)
	assert.Equal(t, "owner", succeeded(t, f.call(t, 0, http.MethodGet, "", nil))["key_provider"])
	assert.Equal(t, "ok", kek()["state"])
	refused(t, callRoot(t, s, http.MethodDelete, provider, nil), http.StatusConflict, "kek/rotate")

	until := func(status int) {
		t.Helper()
		require.Eventually(t, func() bool { return f.call(t, 0, http.MethodGet, "/secrets/own", nil).Status == status },
			time.Minute, 100*time.Millisecond, "status %d", status)
	}
	owner.deny(t)
	until(http.StatusFailedDependency)
	refused(t, f.call(t, 0, http.MethodPut, "/encrypt", map[string]any{"plaintext": "eA=="}), http.StatusFailedDependency, "owner")
	refused(t, f.call(t, 0, http.MethodPut, "/kek/rotate", map[string]any{"provider": ""}), http.StatusFailedDependency, "owner")
	for i := 1; i < 3; i++ {
		succeeded(t, f.call(t, i, http.MethodGet, "/secrets/own", nil))
		succeeded(t, f.call(t, i, http.MethodPut, "/dek/rotate", nil))
	}
	succeeded(t, callRoot(t, s, http.MethodPut, mount+"/kek/rotate", nil))
	require.Equal(t, 0.0, f.untilKEK(t, "completed")["keys_failed"], "the mount's rotation does not need the owner")
	owner.allow(t)
	until(http.StatusOK)
	f.opens(t)
	move("owner")
	move("")
	f.opens(t)
	a := callRoot(t, s, http.MethodDelete, provider, nil)
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
}
