// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// versionFields is a version of a tenant's key that is active and not rotated.
func versionFields() fields {
	return fields{
		"version": is(1.0), "key_id": isKeyID, "key_type": is("xaes256-gcm"), "state": is("active"),
		"created_at": isTime, "activated_at": isTime, "deactivated_at": isNull, "destroyed_at": isNull,
		"page_key_destroyed_at": isNull, "external_key_destroyed_at": isNull,
		"external_use": is(false), "last_external_use": isNull, "pages": is(0.0), "rotation_id": is(""),
	}
}

func readDEK(t *testing.T, s *devstack.Stack, tenant string) map[string]any {
	t.Helper()
	return succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "dek"), nil))
}

func versions(t *testing.T, dek map[string]any) []map[string]any {
	t.Helper()
	list, ok := dek["versions"].([]any)
	require.True(t, ok)
	all := make([]map[string]any, len(list))
	for i, v := range list {
		all[i], ok = v.(map[string]any)
		require.True(t, ok)
	}
	return all
}

func TestContractDEK(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	dek := readDEK(t, s, tenant)
	fields{
		"current_version": is(1.0), "current_key_id": isKeyID, "min_decryption_version": is(1.0), "versions": isList,
	}.check(t, dek)
	require.Len(t, versions(t, dek), 1)
	first := versions(t, dek)[0]
	versionFields().check(t, first)
	assert.Equal(t, dek["current_key_id"], first["key_id"])

	put(t, s, tenantPath(tenant, "secrets/a"), map[string]any{"data": map[string]any{}})
	assert.Equal(t, 1.0, versions(t, readDEK(t, s, tenant))[0]["pages"])

	id := rotate(t, s, tenant)
	waitRotation(t, s, tenant, id, "completed")
	dek = readDEK(t, s, tenant)
	assert.Equal(t, 2.0, dek["current_version"])
	byVersion := map[any]map[string]any{}
	for _, v := range versions(t, dek) {
		byVersion[v["version"]] = v
	}
	want := versionFields()
	want["version"], want["pages"], want["rotation_id"] = is(2.0), is(1.0), is(id)
	want.check(t, byVersion[2.0])
	assert.Equal(t, dek["current_key_id"], byVersion[2.0]["key_id"])
	want = versionFields()
	want["key_id"], want["state"], want["deactivated_at"] = is(first["key_id"]), is("deactivated"), isTime
	want.check(t, byVersion[1.0])
	assert.Len(t, byVersion, 2)

	now := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))
	assert.Equal(t, dek["current_key_id"], now["current_key_id"])
	assert.Equal(t, byVersion[2.0]["activated_at"], now["last_rotated_at"])
}

// TestContractRetention: without retention the old key goes with the rotation.
func TestContractRetention(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	tenant := mount + "/tenants/" + devTenant
	a := callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{"retired_key_retention": 0})
	require.Less(t, a.Status, 300, a.errors())
	succeeded(t, callRoot(t, s, http.MethodPut, tenant, nil))
	put(t, s, tenant+"/secrets/a", map[string]any{"data": map[string]any{}})
	id := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/rotate", nil))["rotation_id"].(string)
	require.Eventually(t, func() bool {
		return callRoot(t, s, http.MethodGet, tenant+"/dek/rotations/"+id, nil).data()["status"] == "completed"
	}, rotationLimit, rotationTick)

	old := versions(t, succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/dek", nil)))[0]
	want := versionFields()
	want["state"], want["deactivated_at"], want["destroyed_at"], want["page_key_destroyed_at"] = is("destroyed"), isTime, isTime, isTime
	want.check(t, old)
	succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/secrets/a", nil))
}
