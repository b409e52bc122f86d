// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const rotatePath = "/api/v1/admin/dek/rotate"

// postRotate makes the documented call.
func postRotate(t *testing.T, s *devstack.Stack, jwt, tenant string) answer {
	t.Helper()
	return callProxy(t, s, http.MethodPost, rotatePath, map[string]string{"tenantId": tenant}, rotateHeaders(jwt, tenant)...)
}

func rotateHeaders(jwt, tenant string) []string {
	return []string{
		"accept", "application/json", "authorization", "Bearer " + jwt,
		"content-type", "application/json", "x-tenantid", tenant,
	}
}

func getRotation(t *testing.T, s *devstack.Stack, jwt, tenant, id string) answer {
	t.Helper()
	return callProxy(t, s, http.MethodGet, rotatePath+"/"+id, nil, "authorization", "Bearer "+jwt, "x-tenantid", tenant)
}

func TestContractProxyRotate(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	_, err := s.Seed(t.Context(), tenant)
	require.NoError(t, err)
	sub := uuid.NewString()
	jwt, err := s.MintJWT(devstack.Claims{
		Subject: sub, Name: "Zoë Größe 東京", Email: "zoe@example.com", TenantID: tenant, Roles: []string{"security_admin"},
	})
	require.NoError(t, err)
	before := readDEK(t, s, tenant)

	a := postRotate(t, s, jwt, tenant)
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Raw)
	assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
	assert.NotEmpty(t, a.Header.Get("X-Request-Id"))
	documented := decoded(t, documentedRotation)
	sameShape(t, "answer", documented, a.Body)
	data := a.data()
	for field, want := range map[string]any{
		"tenantId": tenant, "status": "in_progress", "previousKeyId": before["current_key_id"],
		"itemsToRotate": documented["data"].(map[string]any)["itemsToRotate"],
		"initiatedBy":   map[string]any{"id": sub, "name": "Zoë Größe 東京", "email": "zoe@example.com"},
	} {
		assert.Equal(t, want, data[field], field)
	}
	assert.Equal(t, true, a.Body["success"])
	assert.Equal(t, documented["message"], a.Body["message"])
	assert.WithinDuration(t, time.Now(), parsedTime(t, a.Body["timestamp"]), time.Minute)

	id := data["rotationId"].(string)
	engine := waitRotation(t, s, tenant, id, "completed")
	assert.Equal(t, engine["new_key_id"], data["newKeyId"])
	assert.Equal(t, engine["new_key_id"], readDEK(t, s, tenant)["current_key_id"])

	status := getRotation(t, s, jwt, tenant, id)
	require.Equal(t, http.StatusOK, status.Status, "%s", status.Raw)
	want := data
	want["status"], want["estimatedCompletion"], want["itemsFailed"], want["percent"] = "completed", nil, 0.0, 100.0
	want["itemsRotated"], want["completedAt"] = want["itemsToRotate"], status.data()["completedAt"]
	assert.Equal(t, want, status.data())
	assert.Regexp(t, documentedForms[0], status.data()["completedAt"])
	assert.ElementsMatch(t, []string{"success", "message", "data", "timestamp"}, names(status.Body))
}

func names(object map[string]any) []string {
	all := make([]string, 0, len(object))
	for name := range object {
		all = append(all, name)
	}
	return all
}

// TestContractProxyDuring is what the proxy says while a rotation runs.
func TestContractProxyDuring(t *testing.T) {
	s := shared(t)
	jwt, id, tenant := mint(t, s, "", "super_admin"), "", ""
	key, none := mint(t, s, "", "key_admin"), mint(t, s, "")
	whileRotating(t, s, func(tenant string) string {
		a := postRotate(t, s, jwt, tenant)
		require.Equal(t, http.StatusOK, a.Status, "%s", a.Raw)
		return a.data()["rotationId"].(string)
	}, func(rotating, rotationID string) func() {
		tenant, id = rotating, rotationID
		before := readDEK(t, s, tenant)
		conflict := postRotate(t, s, jwt, tenant)
		forbidden := []answer{postRotate(t, s, key, tenant), postRotate(t, s, none, tenant)}
		status, after := getRotation(t, s, jwt, tenant, id), readDEK(t, s, tenant)
		return func() {
			apiError(t, conflict, http.StatusConflict, "Rotation in progress")
			assert.Equal(t, map[string]any{"rotationId": id}, conflict.Body["error"].(map[string]any)["details"])
			for _, a := range forbidden {
				apiError(t, a, http.StatusForbidden, "Insufficient permissions")
			}
			assert.Len(t, after["versions"], len(versions(t, before)))
			require.Equal(t, http.StatusOK, status.Status, "%s", status.Raw)
			want := rotationStatusShape(t)
			want["completedAt"] = nil
			sameShape(t, "data", want, status.data())
			assert.Equal(t, "in_progress", status.data()["status"])
		}
	})
	ended := rotationStatusShape(t)
	ended["completedAt"], ended["estimatedCompletion"] = ended["startedAt"], nil
	sameShape(t, "data", ended, getRotation(t, s, jwt, tenant, id).data())
}

// rotationStatusShape is the data of the status route: what the document shows
// of a rotation, and how far it is.
func rotationStatusShape(t *testing.T) map[string]any {
	t.Helper()
	data := decoded(t, documentedRotation)["data"].(map[string]any)
	data["itemsRotated"], data["itemsFailed"], data["percent"] = data["itemsToRotate"], 0.0, 0.0
	return data
}

// TestContractProxyAccepts is what a client may send besides the example.
func TestContractProxyAccepts(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	jwt := mint(t, s, tenant, "security_admin")
	upper := strings.ToUpper(tenant)
	for name, c := range map[string]struct {
		headers []string
		body    string
	}{
		"upper case":     {[]string{"x-tenantid", upper}, `{"tenantId": "` + upper + `"}`},
		"mixed case":     {[]string{"x-tenantid", upper}, `{"tenantId": "` + tenant + `"}`},
		"charset":        {[]string{"content-type", "application/json; charset=utf-8"}, ""},
		"accept":         {[]string{"accept", "text/html"}, ""},
		"realm":          {[]string{"realmname", "default"}, ""},
		"scheme":         {[]string{"authorization", "bearer " + jwt}, ""},
		"unknown fields": {nil, `{"tenantId": "` + tenant + `", "more": {"a": [1]}, "TENANTID": 5}`},
		"white space":    {nil, "\n {\"tenantId\":\n\"" + tenant + "\"} \n"},
		"other headers":  {[]string{"INFA-SESSION-ID", "ignored", "X-Vault-Token", "ignored", "X-Vault-Namespace", "ignored"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.body == "" {
				c.body = `{"tenantId": "` + tenant + `"}`
			}
			a := callProxy(t, s, http.MethodPost, rotatePath, c.body, append(rotateHeaders(jwt, tenant), c.headers...)...)
			require.Equal(t, http.StatusOK, a.Status, "%s", a.Raw)
			sameShape(t, "answer", decoded(t, documentedRotation), a.Body)
			assert.Equal(t, tenant, a.data()["tenantId"])
			waitRotation(t, s, tenant, a.data()["rotationId"].(string), "completed")
		})
	}
}

// TestContractProxyRoles goes through who may rotate whose key.
func TestContractProxyRoles(t *testing.T) {
	s := shared(t)
	own, other := newTenant(t, s), newTenant(t, s)
	for _, c := range []struct {
		name, claim, tenant string
		roles               []string
		status              int
	}{
		{"security_admin of the tenant", own, own, []string{"security_admin"}, http.StatusOK},
		{"security_admin of another tenant", own, other, []string{"security_admin"}, http.StatusForbidden},
		{"security_admin of no tenant", "", own, []string{"security_admin"}, http.StatusForbidden},
		{"super_admin of no tenant", "", own, []string{"super_admin"}, http.StatusOK},
		{"super_admin of another tenant", own, other, []string{"super_admin"}, http.StatusOK},
		{"key_admin", own, own, []string{"key_admin"}, http.StatusForbidden},
		{"no role", own, own, nil, http.StatusForbidden},
		{"unknown role", own, own, []string{"root"}, http.StatusForbidden},
		{"two roles", own, own, []string{"key_admin", "security_admin"}, http.StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := readDEK(t, s, c.tenant)
			jwt := mint(t, s, c.claim, c.roles...)
			a := postRotate(t, s, jwt, c.tenant)
			if c.status == http.StatusOK {
				require.Equal(t, http.StatusOK, a.Status, "%s", a.Raw)
				id := a.data()["rotationId"].(string)
				waitRotation(t, s, c.tenant, id, "completed")
				assert.Equal(t, http.StatusOK, getRotation(t, s, jwt, c.tenant, id).Status)
				return
			}
			apiError(t, a, c.status, "Insufficient permissions")
			apiError(t, getRotation(t, s, jwt, c.tenant, "rot-"+uuid.NewString()), c.status, "Insufficient permissions")
			assert.Equal(t, before, readDEK(t, s, c.tenant))
		})
	}
}
