// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

func TestRotateAnswersAsDocumented(t *testing.T) {
	s := newStand(t)
	w := s.rotate()
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	got := decode(t, w)
	requireShape(t, "$", documented(t, documentedRotate), got)
	require.Equal(t, map[string]any{
		"success": true, "message": "DEK rotation initiated successfully", "timestamp": "2025-07-10T12:35:00.007Z",
		"data": map[string]any{
			"rotationId": rotationID, "tenantId": tenantID, "status": "in_progress",
			"previousKeyId": "dek-old", "newKeyId": "dek-new",
			"startedAt": "2025-07-10T14:35:00.123Z", "estimatedCompletion": "2025-07-10T14:45:00.000Z",
			"itemsToRotate": map[string]any{"credentials": 25.0, "apiKeys": 10.0, "secrets": 50.0},
			"initiatedBy":   map[string]any{"id": "user-1", "name": "Ada", "email": "ada@example.com"},
		},
	}, got)

	calls := s.vault.Seen(vaulttest.AtRotate)
	require.Len(t, calls, 1)
	require.Equal(t, "hvs.login-1", calls[0].Token)
	key, _ := calls[0].Body["idempotency_key"].(string)
	require.NoError(t, uuid.Validate(key))
	require.Equal(t, map[string]any{"role": "dek", "jwt": s.goodJWT()}, s.vault.Seen(vaulttest.AtLogin)[0].Body)
	require.Empty(t, s.vault.Seen(vaulttest.AtLogin)[0].Token, "a login carries no token")
}

func TestRotateUsesANewKeyForEachRequest(t *testing.T) {
	s := newStand(t)
	s.rotate()
	s.rotate()
	calls := s.vault.Seen(vaulttest.AtRotate)
	require.Len(t, calls, 2)
	require.NotEqual(t, calls[0].Body["idempotency_key"], calls[1].Body["idempotency_key"])
}

func TestRotateOfAnEndedRotationHasNoEstimate(t *testing.T) {
	s := newStand(t)
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(200, `{"data": {"rotation_id": "`+rotationID+`", "status": "completed",
		"started_at": "2025-07-10T14:35:00Z", "estimated_completion": null, "initiated_by": null}}`))
	data, _ := decode(t, s.rotate())["data"].(map[string]any)
	require.Contains(t, data, "estimatedCompletion")
	require.Nil(t, data["estimatedCompletion"])
	require.Equal(t, map[string]any{"id": "", "name": "", "email": ""}, data["initiatedBy"])
}

func TestRotateAcceptsOtherSpellings(t *testing.T) {
	upper := strings.ToUpper(tenantID)
	for name, edits := range map[string][]edit{
		"upper-case body":     {body(`{"tenantId": "` + upper + `"}`)},
		"upper-case header":   {header("x-tenantid", upper)},
		"unknown fields":      {body(`{"x": [1], "tenantId": "` + tenantID + `", "TenantID": 5}`)},
		"space around":        {body("\n {\"tenantId\": \"" + tenantID + "\"}\r\n\t ")},
		"charset":             {header("Content-Type", "application/json; charset=utf-8")},
		"content type's case": {header("Content-Type", "Application/JSON")},
		"accept is ignored":   {header("Accept", "text/html")},
		"default realm":       {header("realmname", "default")},
		"empty realm":         {header("realmname", "")},
		"lower-case scheme":   {func(r *http.Request) { header("Authorization", "b"+r.Header.Get("Authorization")[1:])(r) }},
		"other family's":      {header("INFA-SESSION-ID", "nonsense")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			w := s.rotate(edits...)
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			require.Len(t, s.vault.Seen(vaulttest.AtRotate), 1)
		})
	}
}

func TestByteOrderMarkIsNamed(t *testing.T) {
	w := newStand(t).rotate(body("\ufeff" + `{"tenantId": "` + tenantID + `"}`))
	requireAdminError(t, w, 400, "INVALID_REQUEST")
	require.Contains(t, w.Body.String(), "byte order mark")
}

func TestRotateRefusesMalformedRequests(t *testing.T) {
	other := "00000000-0000-0000-0000-000000000001"
	for name, edits := range map[string][]edit{
		"no content type":        {header("Content-Type")},
		"form":                   {header("Content-Type", "application/x-www-form-urlencoded")},
		"nearly JSON":            {header("Content-Type", "application/jsonx")},
		"bad parameter":          {header("Content-Type", "application/json; =")},
		"two content types":      {header("Content-Type", "application/json", "application/json")},
		"no x-tenantid":          {header("x-tenantid")},
		"empty x-tenantid":       {header("x-tenantid", "")},
		"two x-tenantid":         {header("x-tenantid", tenantID, tenantID)},
		"x-tenantid no UUID":     {header("x-tenantid", "tenant")},
		"x-tenantid in braces":   {header("x-tenantid", "{"+tenantID+"}")},
		"x-tenantid undashed":    {header("x-tenantid", strings.ReplaceAll(tenantID, "-", ""))},
		"x-tenantid as a path":   {header("x-tenantid", tenantID+"/../x")},
		"empty body":             {body("")},
		"no JSON":                {body("tenantId=x")},
		"null":                   {body("null")},
		"array":                  {body(`[{"tenantId": "` + tenantID + `"}]`)},
		"string":                 {body(`"` + tenantID + `"`)},
		"cut off":                {body(`{"tenantId": "` + tenantID + `"`)},
		"trailing object":        {body(`{"tenantId": "` + tenantID + `"}{}`)},
		"trailing garbage":       {body(`{"tenantId": "` + tenantID + `"}x`)},
		"no tenantId":            {body(`{}`)},
		"tenantId in other case": {body(`{"TENANTID": "` + tenantID + `"}`)},
		"tenantId null":          {body(`{"tenantId": null}`)},
		"tenantId number":        {body(`{"tenantId": 5}`)},
		"tenantId list":          {body(`{"tenantId": ["` + tenantID + `"]}`)},
		"tenantId empty":         {body(`{"tenantId": ""}`)},
		"tenantId no UUID":       {body(`{"tenantId": "x"}`)},
		"tenantId with space":    {body(`{"tenantId": " ` + tenantID + `"}`)},
		"different tenants":      {body(`{"tenantId": "` + other + `"}`)},
		"byte order mark":        {body("\ufeff" + `{"tenantId": "` + tenantID + `"}`)},
		"deep nesting":           {body(strings.Repeat("[", maxBody))},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			w := s.rotate(edits...)
			details := requireAdminError(t, w, 400, "INVALID_REQUEST")
			require.NotEmpty(t, details["reason"])
			require.Contains(t, w.Body.String(), `"Invalid request body"`)
			require.Empty(t, s.vault.Seen(vaulttest.AtRotate), "a refused request reaches nothing")
			require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1, "the login comes first")
		})
	}
}

func TestRotateRefusesALargeBody(t *testing.T) {
	filler := strings.Repeat(" ", maxBody)
	for name, b := range map[string]string{
		"inside":  `{"x": "` + filler + `", "tenantId": "` + tenantID + `"}`,
		"after":   `{"tenantId": "` + tenantID + `"}` + filler,
		"garbage": filler + "x",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			requireAdminError(t, s.rotate(body(b)), 413, "PAYLOAD_TOO_LARGE")
			require.Empty(t, s.vault.Seen(vaulttest.AtRotate))
		})
	}
	s := newStand(t)
	exact := `{"tenantId": "` + tenantID + `"}`
	w := s.rotate(body(exact + strings.Repeat(" ", maxBody-len(exact))))
	require.Equal(t, http.StatusOK, w.Code, "exactly the limit is allowed")
}

func TestRotateIsRepeatedOnceUnderTheSameKey(t *testing.T) {
	for name, failure := range map[string]http.HandlerFunc{
		"500": vaulttest.Reply(500, `{"errors":["plugin crashed"]}`), "502": vaulttest.Reply(502, ""), "503": vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`),
		"504": vaulttest.Reply(504, ""), "connection loss": vaulttest.HangUp,
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = fmt.Fprint(w, `{"data": {`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtRotate, vaulttest.Replies(failure, vaulttest.Reply(200, vaulttest.RotationData)))
			w := s.rotate()
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			calls := s.vault.Seen(vaulttest.AtRotate)
			require.Len(t, calls, 2)
			require.NotEmpty(t, calls[0].Body["idempotency_key"])
			require.Equal(t, calls[0].Body, calls[1].Body)

			s.vault.On(vaulttest.AtRotate, failure)
			require.GreaterOrEqual(t, s.rotate().Code, 500)
			require.Len(t, s.vault.Seen(vaulttest.AtRotate), 4, "twice, not more")
		})
	}
}

func TestRotateGivesUpInTime(t *testing.T) {
	s := newStand(t)
	s.use(testClient(t, s.vault, vault.Config{Timeout: 30 * time.Millisecond}))
	s.vault.On(vaulttest.AtRotate, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.rotate() // logs in and caches the token, on a slow machine perhaps not in time
	w := s.rotate()
	requireAdminError(t, w, 503, "SERVICE_UNAVAILABLE")
	require.LessOrEqual(t, len(s.vault.Seen(vaulttest.AtRotate)), 2, "a timeout is not retried")
}

func TestGetRotation(t *testing.T) {
	s := newStand(t)
	auth, tenant := header("Authorization", "Bearer "+s.goodJWT()), header("x-tenantid", strings.ToUpper(tenantID))
	w := s.do("GET", rotatePath+"/"+rotationID, auth, tenant)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())

	want := documented(t, documentedRotate)
	data, _ := want["data"].(map[string]any)
	data["completedAt"], data["itemsRotated"], data["itemsFailed"], data["percent"] = nil, data["itemsToRotate"], 1.0, 1.0
	got := decode(t, w)
	requireShape(t, "$", want, got)
	data, _ = got["data"].(map[string]any)
	require.Equal(t, map[string]any{"credentials": 5.0, "apiKeys": 2.0, "secrets": 10.0}, data["itemsRotated"])
	require.InDelta(t, 20.5, data["percent"], 0)
	require.InDelta(t, 1, data["itemsFailed"], 0)

	requireAdminError(t, s.do("GET", rotatePath+"/"+rotationID, tenant), 401, "UNAUTHORIZED")
	requireAdminError(t, s.do("GET", rotatePath+"/"+rotationID, auth), 400, "INVALID_REQUEST")
	for _, id := range []string{"x", "rot-", tenantID, rotationID + "0", "rot-" + tenantID + "%2Fpause"} {
		requireAdminError(t, s.do("GET", rotatePath+"/"+id, auth, tenant), 400, "INVALID_REQUEST")
	}
	requireAdminError(t, s.do("GET", rotatePath+"/rot-"+tenantID, auth, tenant), 500, "INTERNAL_ERROR")
	s.vault.On(vaulttest.AtRotation, vaulttest.Reply(404, `{"errors":[]}`))
	requireAdminError(t, s.do("GET", rotatePath+"/"+rotationID, auth, tenant), 404, "ROTATION_NOT_FOUND")
	s.vault.On(vaulttest.AtRotation, vaulttest.Reply(500, `{"errors":[]}`))
	before := len(s.vault.Seen(vaulttest.AtRotation))
	requireAdminError(t, s.do("GET", rotatePath+"/"+rotationID, auth, tenant), 500, "INTERNAL_ERROR")
	require.Len(t, s.vault.Seen(vaulttest.AtRotation), before+1, "a read is the caller's to repeat")
}
