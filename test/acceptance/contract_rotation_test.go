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
		"percent": isNumber, "items_per_second": isNumber, "initiated_by": person, "trigger": is("manual"), "waiting_for": isNull,
	}
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
