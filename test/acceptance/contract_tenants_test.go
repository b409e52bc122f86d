// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func counts(credentials, apiKeys, secrets float64) map[string]any {
	return map[string]any{"credentials": credentials, "api_keys": apiKeys, "secrets": secrets}
}

// tenantFields is a tenant that was created without naming anything.
func tenantFields() fields {
	return fields{
		"tenant_id": isUUID, "display_name": is(""), "key_type": is("xaes256-gcm"),
		"rotation_interval": is(""), "rotation_paused": is(false), "created_at": isTime, "state": is("active"),
		"item_counts": is(counts(0, 0, 0)), "current_key_id": isKeyID,
		"last_rotated_at": isNull, "next_rotation_at": isTime, "delete_after": isNull,
	}
}

func parsedTime(t *testing.T, v any) time.Time {
	t.Helper()
	require.Empty(t, isTime(v))
	parsed, err := time.Parse(time.RFC3339, v.(string))
	require.NoError(t, err)
	return parsed
}

func TestContractTenant(t *testing.T) {
	s := shared(t)
	id := uuid.NewString()
	path := tenantPath(id)
	refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "tenant")

	a := callRoot(t, s, http.MethodPut, path, map[string]any{})
	require.Less(t, a.Status, 300, a.errors())
	tenant := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
	tenantFields().check(t, tenant)
	created := parsedTime(t, tenant["created_at"])
	assert.WithinDuration(t, time.Now(), created, time.Minute)
	assert.WithinDuration(t, created.AddDate(0, 0, 365), parsedTime(t, tenant["next_rotation_at"]), time.Second)

	t.Run("writing again changes what is named", func(t *testing.T) {
		for field, value := range map[string]any{
			"display_name": "Zoë 東京 🔑", "rotation_interval": "90_DAYS", "rotation_paused": true,
		} {
			want := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
			a := callRoot(t, s, http.MethodPut, path, map[string]any{field: value})
			require.Less(t, a.Status, 300, a.errors())
			got := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
			assert.Equal(t, value, got[field])
			for _, both := range []map[string]any{want, got} {
				delete(both, field)
				delete(both, "next_rotation_at") // follows from the two
			}
			assert.Equal(t, want, got, field)
		}
		a := callRoot(t, s, http.MethodPut, path, map[string]any{"rotation_paused": false})
		require.Less(t, a.Status, 300, a.errors())
		got := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
		assert.WithinDuration(t, created.AddDate(0, 0, 90), parsedTime(t, got["next_rotation_at"]), time.Second)
	})
	t.Run("key type", func(t *testing.T) {
		a := callRoot(t, s, http.MethodPut, path, map[string]any{"key_type": "xaes256-gcm", "rotation_interval": ""})
		require.Less(t, a.Status, 300, a.errors())
		before := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
		refused(t, callRoot(t, s, http.MethodPut, path, map[string]any{"key_type": "aes256-gcm", "display_name": "no"}),
			http.StatusBadRequest, "key_type", "rotat")
		assert.Equal(t, before, succeeded(t, callRoot(t, s, http.MethodGet, path, nil)))

		other := tenantPath(uuid.NewString())
		a = callRoot(t, s, http.MethodPut, other, map[string]any{"key_type": "aes256-gcm"})
		require.Less(t, a.Status, 300, a.errors())
		assert.Equal(t, "aes256-gcm", succeeded(t, callRoot(t, s, http.MethodGet, other, nil))["key_type"])
	})
}

func TestContractTenantRefused(t *testing.T) {
	s := shared(t)
	for _, body := range []map[string]any{
		{"key_type": "rsa-2048"},
		{"key_type": 1},
		{"rotation_interval": "91_DAYS"},
		{"rotation_interval": 90},
		{"rotation_paused": "perhaps"},
		{"display_name": []string{"a"}},
		{"display_name": map[string]any{}},
	} {
		t.Run(fmt.Sprint(body), func(t *testing.T) {
			path := tenantPath(uuid.NewString())
			field := slices.Collect(maps.Keys(body))
			refused(t, callRoot(t, s, http.MethodPut, path, body), http.StatusBadRequest, field...)
			refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "tenant")
		})
	}
	upper := strings.ToUpper(newTenant(t, s))
	for _, id := range []string{
		upper, "x", "-", "3fa85f64-5717-4562-b3fc-2c963f66afa", "3fa85f64-5717-4562-b3fc-2c963f66afa66",
		"3fa85f6457174562b3fc2c963f66afa6", "{3fa85f64-5717-4562-b3fc-2c963f66afa6}", "+", "%2a",
		"urn:uuid:3fa85f64-5717-4562-b3fc-2c963f66afa6", "%c3%a9",
	} {
		for _, c := range []struct{ method, below string }{
			{http.MethodGet, ""},
			{http.MethodPut, ""},
			{http.MethodGet, "/dek"},
			{http.MethodPut, "/dek/rotate"},
			{"LIST", "/dek/rotations"},
			{"LIST", "/secrets"},
			{http.MethodGet, "/secrets/a"},
			{http.MethodPut, "/items"},
		} {
			t.Run(c.method+" "+id+c.below, func(t *testing.T) {
				refused(t, callRoot(t, s, c.method, tenantPath(id)+c.below, map[string]any{
					"items": []any{map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{}}},
				}), http.StatusBadRequest, "tenant_id", "UUID")
			})
		}
	}
}

// TestContractUnknownTenant asks everything of a tenant that is not there.
func TestContractUnknownTenant(t *testing.T) {
	s := shared(t)
	path := tenantPath(uuid.NewString())
	item := map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{"v": 1}}
	for _, c := range []struct {
		method, below string
		body          any
	}{
		{http.MethodGet, "", nil},
		{http.MethodGet, "/dek", nil},
		{http.MethodPut, "/dek/rotate", nil},
		{"LIST", "/dek/rotations", nil},
		{http.MethodGet, "/dek/rotations/rot-" + uuid.NewString(), nil},
		{"LIST", "/credentials", nil},
		{http.MethodGet, "/secrets/a", nil},
		{http.MethodPut, "/secrets/a", item},
		{http.MethodPatch, "/secrets/a", item},
		{http.MethodDelete, "/secrets/a", nil},
		{http.MethodPut, "/items", map[string]any{"items": []any{item}}},
		{http.MethodDelete, "", nil},
		{http.MethodPut, "/restore", nil},
		{http.MethodPut, "/dek/config", map[string]any{"min_decryption_version": 1}},
		{http.MethodPut, "/dek/rotations/rot-" + uuid.NewString() + "/pause", nil},
		{http.MethodPut, "/dek/versions/1/destroy", nil},
		{http.MethodPut, "/dek/import", map[string]any{"ciphertext": encoded(text(552))}},
		{http.MethodPut, "/encrypt", map[string]any{"plaintext": ""}},
		{http.MethodPut, "/decrypt", map[string]any{"ciphertext": "dek:v1:AAEC"}},
		{http.MethodPut, "/rewrap", map[string]any{"ciphertext": "dek:v1:AAEC"}},
		{http.MethodPut, "/datakey/plaintext", nil},
		{http.MethodPut, "/datakey/wrapped", nil},
	} {
		t.Run(c.method+" "+c.below, func(t *testing.T) {
			refused(t, callRoot(t, s, c.method, path+c.below, c.body), http.StatusNotFound, "tenant not found")
		})
	}
	refused(t, callRoot(t, s, http.MethodGet, path, nil), http.StatusNotFound, "tenant")
}

func TestContractTenantList(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	list := func(query string) answer { return callRoot(t, s, "LIST", mount+"/tenants"+query, nil) }
	emptyList(t, list(""))
	emptyList(t, list("?limit=5"))

	var ids []string
	for range 25 {
		id := uuid.NewString()
		a := callRoot(t, s, http.MethodPut, mount+"/tenants/"+id, map[string]any{})
		require.Less(t, a.Status, 300, a.errors())
		ids = append(ids, id)
	}
	slices.Sort(ids)
	assert.Equal(t, ids, keys(t, list("")))
	assert.Equal(t, ids, keys(t, callRoot(t, s, http.MethodGet, mount+"/tenants?list=true", nil)))
	assert.Equal(t, ids[:10], keys(t, list("?limit=10")))
	assert.Equal(t, ids[10:20], keys(t, list("?limit=10&after="+ids[9])))
	assert.Equal(t, ids[20:], keys(t, list("?limit=10&after="+ids[19])))
	assert.Equal(t, ids[7:], keys(t, list("?after="+ids[6])))
	assert.Equal(t, ids, keys(t, list("?after=0")), "after need not be there")
	emptyList(t, list("?after="+ids[24]))
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=x", "?limit=1.5"} {
		refused(t, list(query), http.StatusBadRequest, "limit")
	}
}
