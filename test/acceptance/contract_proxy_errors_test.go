// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// apiError requires the documented error of /api/, with the text of the
// document's table.
func apiError(t *testing.T, a answer, status int, message string) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Raw)
	assert.ElementsMatch(t, []string{"success", "error", "timestamp"}, names(a.Body))
	assert.Equal(t, false, a.Body["success"])
	assert.Regexp(t, documentedForms[0], a.Body["timestamp"])
	object, ok := a.Body["error"].(map[string]any)
	require.True(t, ok)
	assert.ElementsMatch(t, []string{"code", "message", "details"}, names(object))
	assert.Regexp(t, `^[A-Z]+(_[A-Z]+)*$`, object["code"])
	assert.Equal(t, message, object["message"])
	assert.NotEmpty(t, a.Header.Get("X-Request-Id"))
}

func TestContractProxyUnauthorized(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	good := mint(t, s, tenant, "security_admin", "super_admin")
	before := readDEK(t, s, tenant)
	refuses := func(t *testing.T, headers ...string) {
		t.Helper()
		rest := []string{"content-type", "application/json", "x-tenantid", tenant}
		a := callProxy(t, s, http.MethodPost, rotatePath, map[string]string{"tenantId": tenant}, append(rest, headers...)...)
		apiError(t, a, http.StatusUnauthorized, "Authentication failed")
		// Who is asking comes first: before the body, its type and the tenant.
		a = callProxy(t, s, http.MethodPost, rotatePath, "no JSON", headers...)
		apiError(t, a, http.StatusUnauthorized, "Authentication failed")
		a = callProxy(t, s, http.MethodGet, rotatePath+"/x", nil, headers...)
		apiError(t, a, http.StatusUnauthorized, "Authentication failed")
	}
	for name, jwt := range badJWTs(t, s, good) {
		t.Run(name, func(t *testing.T) { refuses(t, "authorization", "Bearer "+jwt) })
	}
	t.Run("none", func(t *testing.T) { refuses(t) })
	t.Run("empty", func(t *testing.T) { refuses(t, "authorization", "Bearer ") })
	t.Run("no scheme", func(t *testing.T) { refuses(t, "authorization", good) })
	t.Run("another scheme", func(t *testing.T) { refuses(t, "authorization", "Basic "+good) })
	t.Run("the other family's header", func(t *testing.T) { refuses(t, "INFA-SESSION-ID", good) })
	t.Run("Vault's header", func(t *testing.T) { refuses(t, "X-Vault-Token", s.RootToken()) })
	t.Run("a Vault token", func(t *testing.T) { refuses(t, "authorization", "Bearer "+s.RootToken()) })
	t.Run("unknown realm", func(t *testing.T) { refuses(t, "authorization", "Bearer "+good, "realmname", "unknown") })
	assert.Equal(t, before, readDEK(t, s, tenant))
}

func TestContractProxyInvalid(t *testing.T) {
	s := shared(t)
	tenant, other := newTenant(t, s), uuid.NewString()
	good := `{"tenantId": "` + tenant + `"}`
	before := readDEK(t, s, tenant)
	// Who may not rotate is told of a malformed request all the same.
	for role, jwt := range map[string]string{
		"super_admin": mint(t, s, tenant, "super_admin"), "no role": mint(t, s, tenant),
	} {
		for name, c := range map[string]struct {
			header, value string
			body          string
		}{
			"no content type":         {"content-type", "", good},
			"text":                    {"content-type", "text/plain", good},
			"a form":                  {"content-type", "application/x-www-form-urlencoded", good},
			"almost JSON":             {"content-type", "application/jsonp", good},
			"no tenant header":        {"x-tenantid", "", good},
			"tenant header no UUID":   {"x-tenantid", "tenant", good},
			"tenant header with path": {"x-tenantid", tenant + "/dek", good},
			"another tenant":          {"x-tenantid", other, good},
			"no body":                 {"", "", ""},
			"no JSON":                 {"", "", "tenantId=" + tenant},
			"half":                    {"", "", good[:len(good)-1]},
			"two objects":             {"", "", good + good},
			"a list":                  {"", "", "[" + good + "]"},
			"null":                    {"", "", "null"},
			"text instead":            {"", "", `"` + tenant + `"`},
			"no tenantId":             {"", "", `{}`},
			"another case":            {"", "", `{"tenantid": "` + tenant + `"}`},
			"tenantId null":           {"", "", `{"tenantId": null}`},
			"tenantId empty":          {"", "", `{"tenantId": ""}`},
			"tenantId a number":       {"", "", `{"tenantId": 5}`},
			"tenantId no UUID":        {"", "", `{"tenantId": "tenant"}`},
			"tenantId with path":      {"", "", `{"tenantId": "` + tenant + `/../x"}`},
			"tenantId another":        {"", "", `{"tenantId": "` + other + `"}`},
		} {
			t.Run(role+": "+name, func(t *testing.T) {
				headers := rotateHeaders(jwt, tenant)
				if i := slices.Index(headers, c.header); i >= 0 {
					headers[i+1] = c.value
					if c.value == "" {
						headers = slices.Delete(headers, i, i+2)
					}
				}
				apiError(t, callProxy(t, s, http.MethodPost, rotatePath, c.body, headers...), http.StatusBadRequest, "Invalid request body")
			})
		}
		t.Run(role+": too large", func(t *testing.T) {
			body := `{"tenantId": "` + tenant + `", "more": "` + text(1<<20) + `"}`
			a := callProxy(t, s, http.MethodPost, rotatePath, body, rotateHeaders(jwt, tenant)...)
			require.Equal(t, http.StatusRequestEntityTooLarge, a.Status, "%s", a.Raw)
			apiError(t, a, http.StatusRequestEntityTooLarge, a.Body["error"].(map[string]any)["message"].(string))
		})
	}
	assert.Equal(t, before, readDEK(t, s, tenant))
}

// TestContractProxyTooLarge: a large body is refused on every route, before
// anybody is asked who they are.
func TestContractProxyTooLarge(t *testing.T) {
	s := shared(t)
	for _, size := range []int{16<<10 + 1, 1 << 20, 1<<20 + 1} {
		for _, c := range []struct{ method, path string }{
			{http.MethodPost, rotatePath},
			{http.MethodGet, rotatePath + "/x"},
			{http.MethodPost, "/api/v1/nothing"},
			{http.MethodPatch, "/public/core/v3/key/rotationSettings"},
			{http.MethodPost, "/saas/public/core/v3/login"},
			{http.MethodGet, "/health"},
			{http.MethodGet, "/metrics"},
		} {
			a := callProxy(t, s, c.method, c.path, text(size))
			assert.Equal(t, http.StatusRequestEntityTooLarge, a.Status, "%s %s of %d bytes: %s", c.method, c.path, size, a.Raw)
		}
	}
	a := callProxy(t, s, http.MethodPost, rotatePath, text(16<<10))
	assert.Equal(t, http.StatusUnauthorized, a.Status, "%s", a.Raw)
}

func TestContractProxyNotFound(t *testing.T) {
	s := shared(t)
	super, tenant := mint(t, s, "", "super_admin"), newTenant(t, s)
	unknown := uuid.NewString()
	apiError(t, postRotate(t, s, super, unknown), http.StatusNotFound, "Tenant not found")
	apiError(t, postRotate(t, s, mint(t, s, unknown, "security_admin"), unknown), http.StatusNotFound, "Tenant not found")
	apiError(t, postRotate(t, s, mint(t, s, unknown), unknown), http.StatusForbidden, "Insufficient permissions")
	refused(t, callRoot(t, s, http.MethodGet, tenantPath(unknown), nil), http.StatusNotFound, "tenant")

	assert.Equal(t, http.StatusNotFound, getRotation(t, s, super, tenant, "rot-"+uuid.NewString()).Status)
	assert.Equal(t, http.StatusNotFound, getRotation(t, s, super, unknown, "rot-"+uuid.NewString()).Status)
	assert.Equal(t, http.StatusBadRequest, getRotation(t, s, super, "tenant", "rot-"+uuid.NewString()).Status)
	assert.Equal(t, http.StatusBadRequest, getRotation(t, s, super, "", "rot-"+uuid.NewString()).Status)
	for _, id := range []string{"x", "rot-x", unknown} {
		assert.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound}, getRotation(t, s, super, tenant, id).Status, id)
	}
	id := rotate(t, s, tenant)
	waitRotation(t, s, tenant, id, "completed")
	assert.Equal(t, http.StatusNotFound, getRotation(t, s, super, newTenant(t, s), id).Status, "of another tenant")
}

// TestContractProxyRoutes: what does not exist is answered in the envelope of
// its family.
func TestContractProxyRoutes(t *testing.T) {
	s := shared(t)
	for _, c := range []struct {
		method, path string
		status       int
		public       bool
	}{
		{http.MethodGet, "/", 404, false},
		{http.MethodGet, "/nothing", 404, false},
		{http.MethodGet, "/api/v1/nothing", 404, false},
		{http.MethodPost, rotatePath + "/", 404, false},
		{http.MethodPost, "/api//v1/admin/dek/rotate", 404, false},
		{http.MethodGet, "/api/v1/admin/dek/rotate/rot-" + devTenant + "/x", 404, false},
		{http.MethodGet, "/public/nothing", 404, true},
		{http.MethodGet, "/saas/nothing", 404, true},
		{http.MethodGet, "/publicity", 404, false},
		{http.MethodGet, rotatePath, 405, false},
		{http.MethodPut, rotatePath, 405, false},
		{http.MethodDelete, rotatePath + "/rot-" + devTenant, 405, false},
		{http.MethodPost, "/health", 405, false},
		{http.MethodDelete, "/public/core/v3/key/rotationSettings", 405, true},
		{http.MethodPut, "/saas/public/core/v3/key/rotationSettings", 405, true},
		{http.MethodGet, "/saas/public/core/v3/login", 405, true},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			a := callProxy(t, s, c.method, c.path, nil)
			require.Equal(t, c.status, a.Status, "%s", a.Raw)
			object, ok := a.Body["error"].(map[string]any)
			require.True(t, ok, "%s", a.Raw)
			if c.public {
				publicError(t, a, c.status)
			} else {
				apiError(t, a, c.status, object["message"].(string))
			}
		})
	}
}

func TestContractProxyRequestID(t *testing.T) {
	s := shared(t)
	a := callProxy(t, s, http.MethodGet, "/health", nil, "X-Request-Id", "my-request.1_2")
	assert.Equal(t, "my-request.1_2", a.Header.Get("X-Request-Id"))
	for _, id := range []string{"", "with space", "<script>", text(1000), "a\tb", "é"} {
		got := callProxy(t, s, http.MethodGet, "/health", nil, "X-Request-Id", id).Header.Get("X-Request-Id")
		assert.NotEqual(t, id, got)
		assert.NotEmpty(t, got)
	}
}
