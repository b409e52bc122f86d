// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// destroyAtOnce is a mount whose rotations destroy the old page key as they end,
// and a tenant of it.
func destroyAtOnce(t *testing.T, s *devstack.Stack) (tenant string) {
	t.Helper()
	mount := withMount(t, s)
	require.Less(t, callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{"retired_key_retention": 0}).Status, 300)
	tenant = mount + "/tenants/" + uuid.NewString()
	require.Less(t, callRoot(t, s, http.MethodPut, tenant, nil).Status, 300)
	return tenant
}

// rotateTo starts a rotation of a tenant of a mount of the test's own and waits
// until it has completed.
func rotateTo(t *testing.T, s *devstack.Stack, tenant string) {
	t.Helper()
	data := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/rotate", nil))
	id, _ := data["rotation_id"].(string)
	require.Eventually(t, func() bool {
		a := callRoot(t, s, http.MethodGet, tenant+"/dek/rotations/"+id, nil)
		return a.data()["status"] == "completed"
	}, rotationLimit, rotationTick)
}

// TestContractVersions follows ciphertexts over rotations, a least version and
// the destruction of their version.
func TestContractVersions(t *testing.T) {
	s := shared(t)
	tenant := destroyAtOnce(t, s)
	old := encrypt(t, s, tenant, map[string]any{"plaintext": encoded("old")})
	rotateTo(t, s, tenant)
	rotateTo(t, s, tenant)
	current := encrypt(t, s, tenant, map[string]any{"plaintext": encoded("new")})
	dek := func() []any {
		list, _ := succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/dek", nil))["versions"].([]any)
		var states []any
		for _, v := range list {
			version, _ := v.(map[string]any)
			states = append(states, version["state"], version["external_use"])
		}
		return states
	}
	assert.Equal(t, []any{"deactivated", true, "destroyed", false, "active", true}, dek())
	decrypt := func(ciphertext string) answer {
		return callRoot(t, s, http.MethodPut, tenant+"/decrypt", map[string]any{"ciphertext": ciphertext})
	}
	assert.Equal(t, encoded("old"), succeeded(t, decrypt(old))["plaintext"])

	least := func(n int) answer {
		return callRoot(t, s, http.MethodPut, tenant+"/dek/config", map[string]any{"min_decryption_version": n})
	}
	refused(t, least(0), http.StatusBadRequest, "min_decryption_version")
	refused(t, least(4), http.StatusBadRequest, "min_decryption_version")
	assert.Equal(t, 3.0, succeeded(t, least(3))["min_decryption_version"])
	refused(t, decrypt(old), http.StatusBadRequest, "min_decryption_version")
	assert.Equal(t, encoded("new"), succeeded(t, decrypt(current))["plaintext"])
	succeeded(t, least(1))
	succeeded(t, decrypt(old))

	destroy := func(version string, force bool) answer {
		return callRoot(t, s, http.MethodPut, tenant+"/dek/versions/"+version+"/destroy", map[string]any{"force": force})
	}
	refused(t, destroy("3", true), http.StatusConflict, "active")
	refused(t, destroy("4", true), http.StatusNotFound)
	refused(t, destroy("01", true), http.StatusBadRequest, "version")
	refused(t, destroy("1", false), http.StatusConflict, "external_use")
	assert.Equal(t, "destroyed", succeeded(t, destroy("2", false))["state"], "it is already")
	rewrapped := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/rewrap", map[string]any{"ciphertext": old}))
	assert.Equal(t, 3.0, rewrapped["key_version"])
	fields{
		"version": is(1.0), "key_id": isKeyID, "key_type": is("xaes256-gcm"), "state": is("destroyed"), "created_at": isTime, "activated_at": isTime,
		"deactivated_at": isTime, "destroyed_at": isTime, "page_key_destroyed_at": isTime, "external_key_destroyed_at": isTime, "last_external_use": isText, "external_use": is(false), "pages": is(0.0), "rotation_id": is(""),
	}.check(t, succeeded(t, destroy("1", true)))
	refused(t, decrypt(old), http.StatusBadRequest, "destroyed")
	ciphertext, _ := rewrapped["ciphertext"].(string)
	assert.Equal(t, encoded("old"), succeeded(t, decrypt(ciphertext))["plaintext"])
	assert.Equal(t, []any{"destroyed", false, "destroyed", false, "active", true}, dek())
}
