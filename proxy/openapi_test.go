// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

// document is openapi.json as it is served.
func document(t *testing.T, s *stand) map[string]any {
	t.Helper()
	w := s.do("GET", "/openapi.json")
	require.Equal(t, 200, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	return decode(t, w)
}

// TestOpenAPIKnowsEveryRoute holds the routes and the document against each other.
func TestOpenAPIKnowsEveryRoute(t *testing.T) {
	s := newStand(t)
	doc := document(t, s)
	require.Equal(t, "3.1.0", doc["openapi"])
	require.Regexp(t, `^\d+\.\d+\.\d+`, doc["info"].(map[string]any)["version"])
	described := map[string][]string{}
	for path, item := range doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			described[path] = append(described[path], strings.ToUpper(method))
		}
		slices.Sort(described[path])
	}
	served := map[string][]string{}
	table := s.routes()
	maps.Copy(table, s.adminRoutes())
	for path, m := range table {
		served[path] = slices.Sorted(maps.Keys(m))
	}
	require.Equal(t, served, described)
}

// TestOpenAPIHoldsForRealAnswers checks answers of each status against the schema
// that the document gives for them.
func TestOpenAPIHoldsForRealAnswers(t *testing.T) {
	s := userStand(t)
	doc := document(t, s)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("openapi.json", doc))
	session := header("INFA-SESSION-ID", s.goodJWT())
	bearer, tenant := header("Authorization", "Bearer "+s.goodJWT()), header("x-tenantid", tenantID)
	status := func(edits ...edit) *httptest.ResponseRecorder {
		return s.do("GET", rotatePath+"/"+rotationID, append([]edit{bearer, tenant}, edits...)...)
	}
	check := func(method, path string, w *httptest.ResponseRecorder) {
		t.Helper()
		op := doc["paths"].(map[string]any)[path].(map[string]any)[strings.ToLower(method)].(map[string]any)
		answer, ok := op["responses"].(map[string]any)[strconv.Itoa(w.Code)].(map[string]any)
		require.True(t, ok, "%s %s does not say that it answers %d", method, path, w.Code)
		content, ok := answer["content"].(map[string]any)
		if !ok {
			require.Empty(t, w.Body.String())
			return
		}
		if _, text := content["text/plain"]; text {
			require.Contains(t, w.Header().Get("Content-Type"), "text/plain")
			return
		}
		schema, _ := content["application/json"].(map[string]any)["schema"].(map[string]any)
		at, ok := schema["$ref"].(string)
		if !ok {
			return
		}
		compiled, err := compiler.Compile("openapi.json" + at)
		require.NoError(t, err)
		var body any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.NoError(t, compiled.Validate(body), "%s %s %d", method, path, w.Code)
	}
	statusPath := rotatePath + "/{rotationId}"
	check("POST", rotatePath, s.rotate())
	check("POST", rotatePath, s.rotate(body("{}")))
	check("POST", rotatePath, s.rotate(body(strings.Repeat(" ", maxBody+1))))
	check("POST", rotatePath, s.rotate(header("Authorization")))
	check("GET", statusPath, status())
	check("GET", statusPath, status(header("Authorization")))
	check("GET", "/api/v1/admin/health", s.do("GET", "/api/v1/admin/health"))
	check("GET", "/metrics", s.do("GET", "/metrics"))
	for _, path := range []string{"/health", "/api/v1/health"} {
		check("GET", path, s.do("GET", path))
	}
	for _, prefix := range []string{"", "/saas"} {
		check("GET", prefix+settingsPath, s.do("GET", prefix+settingsPath, session))
		check("PATCH", prefix+settingsPath, s.change(func(r *http.Request) { r.URL.Path = prefix + settingsPath }))
		check("PATCH", prefix+settingsPath, s.change(body("{}")))
		login := prefix + "/public/core/v3/login"
		check("POST", login, s.userLogin(func(r *http.Request) { r.URL.Path = login }))
		check("POST", login, s.userLogin(body("{}")))
		logout := prefix + "/public/core/v3/logout"
		check("POST", logout, s.do("POST", logout, header("INFA-SESSION-ID", "hvs.session")))
		check("POST", logout, s.do("POST", logout))
	}
	for _, answer := range []http.HandlerFunc{
		vaulttest.Reply(403, vaulttest.Denied), vaulttest.Reply(404, `{"errors":[]}`), vaulttest.Reply(429, `{"errors":[]}`),
		vaulttest.Reply(409, `{"errors":["`+rotationID+` is running"]}`), vaulttest.Reply(409, `{"errors":["full"]}`),
		vaulttest.Reply(424, `{"errors":["denied"]}`), vaulttest.Reply(500, `{"errors":["x"]}`), vaulttest.Reply(503, `{"errors":["x"]}`),
	} {
		s.vault.On(vaulttest.AtRotate, answer)
		check("POST", rotatePath, s.rotate())
	}
	s.vault.Close()
	s.clock.advance(healthAge)
	check("GET", "/api/v1/admin/health", s.do("GET", "/api/v1/admin/health"))
	check("GET", "/health", s.do("GET", "/health"))
}
