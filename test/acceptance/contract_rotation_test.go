// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// rotationFields is the rotation object, in whatever state it is.
func rotationFields() fields {
	person := check(func(v any) string {
		who, ok := v.(map[string]any)
		if !ok || len(who) != 3 {
			return fmt.Sprintf("is %v, want id, name and email", v)
		}
		return isText(who["id"]) + isText(who["name"]) + isText(who["email"])
	})
	amounts := check(func(v any) string {
		by, ok := v.(map[string]any)
		if !ok || len(by) != 3 {
			return fmt.Sprintf("is %v, want a count for each kind", v)
		}
		return isNumber(by["credentials"]) + isNumber(by["api_keys"]) + isNumber(by["secrets"])
	})
	return fields{
		"rotation_id": isRotationID, "tenant_id": isUUID, "previous_key_id": isKeyID, "new_key_id": isKeyID,
		"previous_version": isNumber, "new_version": isNumber, "reason": isText, "status": isText,
		"started_at": isTime, "updated_at": isTime, "completed_at": isNull, "estimated_completion": isTime,
		"items_to_rotate": amounts, "items_rotated": amounts, "items_failed": is(0.0), "failures": is([]any{}),
		"percent": isNumber, "items_per_second": isNumber, "initiated_by": person, "trigger": is("manual"),
	}
}

// versionFields is a version of a tenant's key that is active and not rotated.
func versionFields() fields {
	return fields{
		"version": is(1.0), "key_id": isKeyID, "key_type": is("xaes256-gcm"), "state": is("active"),
		"created_at": isTime, "activated_at": isTime, "deactivated_at": isNull, "destroyed_at": isNull,
		"external_use": is(false), "pages": is(0.0), "rotation_id": is(""),
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
	want["state"], want["deactivated_at"], want["destroyed_at"] = is("destroyed"), isTime, isTime
	want.check(t, old)
	succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/secrets/a", nil))
}

func TestContractRotation(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	_, err := s.Seed(t.Context(), tenant)
	require.NoError(t, err)
	before := readDEK(t, s, tenant)

	started := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"),
		map[string]any{"reason": "Schlüssel verloren 🔑"}))
	rotationFields().check(t, started)
	for field, want := range map[string]any{
		"tenant_id": tenant, "previous_key_id": before["current_key_id"], "previous_version": 1.0, "new_version": 2.0,
		"reason": "Schlüssel verloren 🔑", "status": "in_progress", "items_to_rotate": counts(25, 10, 50),
	} {
		assert.Equal(t, want, started[field], field)
	}
	assert.NotEqual(t, started["previous_key_id"], started["new_key_id"])
	assert.WithinDuration(t, time.Now(), parsedTime(t, started["started_at"]), time.Minute)
	assert.False(t, parsedTime(t, started["estimated_completion"]).Before(parsedTime(t, started["started_at"])))
	assert.Equal(t, map[string]any{"id": "root", "name": "root", "email": ""}, started["initiated_by"])

	waitRotation(t, s, tenant, started["rotation_id"].(string), "completed")
	ended := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "dek/rotations", started["rotation_id"].(string)), nil))
	want := rotationFields()
	want["completed_at"], want["estimated_completion"] = isTime, isNull
	want["status"], want["percent"], want["items_rotated"] = is("completed"), is(100.0), is(counts(25, 10, 50))
	for _, same := range []string{
		"rotation_id", "tenant_id", "previous_key_id", "new_key_id", "previous_version", "new_version",
		"reason", "started_at", "items_to_rotate", "initiated_by", "trigger",
	} {
		want[same] = is(started[same])
	}
	want.check(t, ended)
	assert.False(t, parsedTime(t, ended["completed_at"]).Before(parsedTime(t, ended["started_at"])))
	assert.False(t, parsedTime(t, ended["updated_at"]).After(parsedTime(t, ended["completed_at"])))
}

// TestContractRotationOfNothing: a tenant without items has a rotation as others do.
func TestContractRotationOfNothing(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for range 10 {
		a := succeeded(t, callRoot(t, s, http.MethodPost, tenantPath(tenant, "dek/rotate"), nil))
		rotationFields().check(t, a)
		assert.Equal(t, "in_progress", a["status"])
		end := waitRotation(t, s, tenant, a["rotation_id"].(string), "completed")
		assert.Nil(t, end["estimated_completion"])
	}
	assert.Equal(t, 11.0, readDEK(t, s, tenant)["current_version"])
}

func TestContractRotationKeyType(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	put(t, s, tenantPath(tenant, "secrets/a"), map[string]any{"data": map[string]any{"v": "kept"}})
	for _, want := range []string{"aes256-gcm", "aes256-gcm", "xaes256-gcm"} {
		body := map[string]any{"key_type": want}
		if readDEK(t, s, tenant)["current_version"] == 2.0 {
			body = nil // then it stays as it is
		}
		a := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), body))
		waitRotation(t, s, tenant, a["rotation_id"].(string), "completed")
		assert.Equal(t, want, succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))["key_type"])
		item := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "secrets/a"), nil))
		assert.Equal(t, map[string]any{"v": "kept"}, item["data"])
	}
	before := readDEK(t, s, tenant)
	for field, value := range map[string]any{"key_type": "rsa-2048", "reason": []string{"a"}, "idempotency_key": map[string]any{}} {
		refused(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), map[string]any{field: value}),
			http.StatusBadRequest, field)
	}
	assert.Equal(t, before, readDEK(t, s, tenant))
}

func TestContractIdempotency(t *testing.T) {
	s := shared(t)
	start := func(tenant string) string {
		a := callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), map[string]any{"idempotency_key": tenant})
		return succeeded(t, a)["rotation_id"].(string)
	}
	tenant := newTenant(t, s)
	id := start(tenant)
	assert.Equal(t, id, start(tenant))
	waitRotation(t, s, tenant, id, "completed")
	a := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), map[string]any{"idempotency_key": tenant}))
	assert.Equal(t, id, a["rotation_id"], "when it is over too")
	assert.Equal(t, "completed", a["status"])
	assert.Equal(t, 2.0, readDEK(t, s, tenant)["current_version"])

	second := rotate(t, s, tenant)
	assert.NotEqual(t, id, second, "without a key each request is its own")
	waitRotation(t, s, tenant, second, "completed")
	other := newTenant(t, s)
	a = succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(other, "dek/rotate"), map[string]any{"idempotency_key": tenant}))
	assert.Equal(t, other, a["tenant_id"], "a key is the tenant's own")

	t.Run("while it runs", func(t *testing.T) {
		key := ""
		whileRotating(t, s, func(tenant string) string {
			key = uuid.NewString()
			a := callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), map[string]any{"idempotency_key": key})
			return succeeded(t, a)["rotation_id"].(string)
		}, func(tenant, id string) func() {
			a := callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/rotate"), map[string]any{"idempotency_key": key})
			return func() { assert.Equal(t, id, succeeded(t, a)["rotation_id"]) }
		})
	})
}

func TestContractRotationHistory(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	list := func(query string) answer {
		return callRoot(t, s, "LIST", tenantPath(tenant, "dek/rotations")+query, nil)
	}
	emptyList(t, list(""))
	var ids []string
	for range 5 {
		id := rotate(t, s, tenant)
		waitRotation(t, s, tenant, id, "completed")
		ids = append(ids, id)
	}
	slices.Reverse(ids)
	assert.Equal(t, ids, keys(t, list("")), "newest first")
	assert.Equal(t, ids[:2], keys(t, list("?limit=2")))
	assert.Equal(t, ids[2:4], keys(t, list("?limit=2&after="+ids[1])))
	assert.Equal(t, ids[4:], keys(t, list("?limit=2&after="+ids[3])))
	emptyList(t, list("?after="+ids[4]))

	other := newTenant(t, s)
	for _, id := range []string{"rot-" + uuid.NewString(), "rot-x", "x", ids[0][:len(ids[0])-1], "ROT" + ids[0][3:]} {
		a := callRoot(t, s, http.MethodGet, tenantPath(tenant, "dek/rotations", id), nil)
		assert.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound}, a.Status, id)
	}
	refused(t, callRoot(t, s, http.MethodGet, tenantPath(other, "dek/rotations", ids[0]), nil), http.StatusNotFound, "rotation not found")
}
