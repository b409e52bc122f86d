// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// transitOwner is somebody who has a key in a transit engine, and lends it.
type transitOwner struct {
	s             *devstack.Stack
	mount, policy string
	token         string
}

// newTransitOwner makes a key in the transit engine of s, and a token that may use it.
func newTransitOwner(t *testing.T, s *devstack.Stack) *transitOwner {
	t.Helper()
	name := "owner-" + uuid.NewString()[:8]
	o := &transitOwner{s: s, mount: name, policy: name}
	a := callRoot(t, s, http.MethodPost, "sys/mounts/"+name, map[string]any{"type": "transit"})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	t.Cleanup(func() { _ = s.Client().Sys().Unmount(name) })
	a = callRoot(t, s, http.MethodPost, name+"/keys/dek", nil)
	require.Less(t, a.Status, 300, a.errors())
	o.allow(t)
	a = callRoot(t, s, http.MethodPost, "auth/token/create-orphan", map[string]any{"policies": []string{name}, "period": "1h"})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	auth, _ := a.Body["auth"].(map[string]any)
	o.token, _ = auth["client_token"].(string)
	return o
}

// allow lets the token use the key, and deny takes that away.
func (o *transitOwner) allow(t *testing.T) {
	o.setPolicy(t, `path "`+o.mount+`/+/dek" { capabilities = ["update"] }`)
}

func (o *transitOwner) deny(t *testing.T) {
	o.setPolicy(t, `path "nothing" { capabilities = ["deny"] }`)
}

// destroy deletes the key for good.
func (o *transitOwner) destroy(t *testing.T) {
	t.Helper()
	key := o.mount + "/keys/dek"
	require.Less(t, callRoot(t, o.s, http.MethodPost, key+"/config", map[string]any{"deletion_allowed": true}).Status, 300)
	require.Less(t, callRoot(t, o.s, http.MethodDelete, key, nil).Status, 300)
}

func (o *transitOwner) setPolicy(t *testing.T, policy string) {
	t.Helper()
	a := callRoot(t, o.s, http.MethodPut, "sys/policies/acl/"+o.policy, map[string]any{"policy": policy})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
}

// provider is the body of a write of a provider that uses the key.
func (o *transitOwner) provider() map[string]any {
	return map[string]any{
		"type": "transit", "lease": "10s", "timeout": "4s", "mount": true, "tenants": []string{"*"},
		"parameters": map[string]any{"address": o.s.VaultAddr(), "token": o.token, "key_name": "dek", "mount_path": o.mount},
	}
}

// TestContractProviders has the KEK of a mount under a key of a real Vault's transit engine,
// and takes that key away in each way that its owner has.
func TestContractProviders(t *testing.T) {
	t.Parallel() // it waits for leases
	s := shared(t)
	mount := withMount(t, s)
	f := newCrowd(t, s, mount, 12)
	owner := newTransitOwner(t, s)
	provider := mount + "/providers/owner"
	refused(t, callRoot(t, s, http.MethodPut, mount+"/kek/rotate", map[string]any{"provider": "owner"}), http.StatusBadRequest, "provider")
	owner.deny(t)
	refused(t, callRoot(t, s, http.MethodPut, provider, owner.provider()), http.StatusBadRequest, "permission denied")
	refused(t, callRoot(t, s, http.MethodGet, provider, nil), http.StatusNotFound)
	owner.allow(t)
	written := succeeded(t, callRoot(t, s, http.MethodPut, provider, owner.provider()))
	parameters, _ := written["parameters"].(map[string]any)
	assert.Equal(t, "<configured>", parameters["token"])
	assert.Equal(t, []any{"ok", 10.0, 0.0}, []any{written["state"], written["lease"], written["in_use"]})

	move := func(under string) map[string]any {
		t.Helper()
		succeeded(t, callRoot(t, s, http.MethodPut, mount+"/kek/rotate", map[string]any{"provider": under}))
		kek := f.untilKEK(t, "completed")
		require.Equal(t, []any{under, 0.0, nil}, []any{kek["provider"], kek["keys_failed"], kek["waiting_for"]})
		return kek
	}
	move("owner")
	f.opens(t)
	refused(t, callRoot(t, s, http.MethodDelete, provider, nil), http.StatusConflict, "kek/rotate")
	succeeded(t, callRoot(t, s, http.MethodGet, provider, nil))

	// until waits for an answer to a read, and returns when the last request was made that
	// got another one.
	until := func(status int) (last time.Time) {
		t.Helper()
		require.Eventually(t, func() bool {
			began := time.Now()
			if f.call(t, 0, http.MethodGet, "/secrets/own", nil).Status == status {
				return true
			}
			last = began
			return false
		}, time.Minute, 100*time.Millisecond, "status %d", status)
		return last
	}
	began := time.Now()
	owner.deny(t)
	assert.Less(t, until(http.StatusFailedDependency).Sub(began), 11*time.Second, "a lease and a second")
	for i := range f.ids {
		refused(t, f.call(t, i, http.MethodGet, "/secrets/own", nil), http.StatusFailedDependency, "owner")
		refused(t, f.call(t, i, http.MethodPut, "/encrypt", map[string]any{"plaintext": "eA=="}), http.StatusFailedDependency, "owner")
		refused(t, f.call(t, i, http.MethodPut, "/decrypt", map[string]any{"ciphertext": f.ciphertexts[i]}), http.StatusFailedDependency, "owner")
		refused(t, f.call(t, i, http.MethodPut, "/dek/rotate", nil), http.StatusFailedDependency, "owner")
	}
	refused(t, callRoot(t, s, http.MethodPut, mount+"/kek/rotate", map[string]any{"provider": ""}), http.StatusFailedDependency, "owner")
	assert.Equal(t, "denied", succeeded(t, callRoot(t, s, http.MethodGet, mount+"/kek", nil))["state"])
	owner.allow(t)
	until(http.StatusOK)
	f.opens(t)

	// A key version that is not to be used any more. The KEK was wrapped under the first.
	key := owner.mount + "/keys/dek"
	for _, change := range []struct {
		path string
		body any
	}{{"/rotate", nil}, {"/config", map[string]any{"min_decryption_version": 2}}} {
		require.Less(t, callRoot(t, s, http.MethodPost, key+change.path, change.body).Status, 300)
	}
	until(http.StatusFailedDependency)
	require.Less(t, callRoot(t, s, http.MethodPost, key+"/config", map[string]any{"min_decryption_version": 1}).Status, 300)
	until(http.StatusOK)
	move("owner") // under the key as it is now
	require.Less(t, callRoot(t, s, http.MethodPost, key+"/config", map[string]any{"min_decryption_version": 2}).Status, 300)
	f.opens(t)
	move("")
	f.opens(t)
	a := callRoot(t, s, http.MethodDelete, provider, nil)
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())

	// The key is destroyed: what is under it is gone, and a tenant can still be deleted.
	succeeded(t, callRoot(t, s, http.MethodPut, provider, owner.provider()))
	move("owner")
	owner.destroy(t)
	until(http.StatusFailedDependency)
	a = callRoot(t, s, http.MethodPost, mount+"/config", map[string]any{"min_deletion_window": 0})
	require.Less(t, a.Status, 300, a.errors())
	a = f.call(t, 0, http.MethodDelete, "?deletion_window=168h", nil)
	require.Less(t, a.Status, 300, a.errors())
}
