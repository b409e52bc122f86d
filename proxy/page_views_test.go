// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

func TestPageNamesAreText(t *testing.T) {
	b := signedIn(t, pageStand(t), mayAll)
	for _, path := range []string{"/ui/fleet", "/ui/fleet?search=" + url.QueryEscape(evilName), tenantPath} {
		w := b.get(path)
		require.Equal(t, 200, w.Code, path)
		require.NotContains(t, w.Body.String(), "<script>alert", path)
		require.NotContains(t, w.Body.String(), "<img", path)
		require.Contains(t, w.Body.String(), "&lt;script&gt;", path)
	}
}

// TestPageOffersWhatPoliciesAllow takes one capability away after the other.
func TestPageOffersWhatPoliciesAllow(t *testing.T) {
	tenant := "tenants/" + tenantID
	for path, offered := range map[string]string{
		tenant + "/dek/rotate": `id="rotate"`, tenant + "/dek/rotations": `id="rotations"`, tenant + "/dek": `id="versions"`, tenant: `id="delete"`,
		tenant + "/dek/rotations/rot-00000000-0000-4000-8000-000000000000/pause": `value="pause"`,
		tenant + "/dek/versions/1/destroy":                                       "Destroy version 1",
	} {
		s := pageStand(t)
		if path == tenant+"/dek/rotate" {
			s.vault.On(vaulttest.AtRotation, vaulttest.Reply(200, strings.Replace(vaulttest.RotationData, "in_progress", "completed", 1)))
		}
		b := signedIn(t, s, mayAll)
		require.Contains(t, b.get(tenantPath).Body.String(), offered)
		less := map[string]string{}
		for p, have := range mayAll {
			if p != path {
				less[p] = have
			}
		}
		allow(s, less)
		require.NotContains(t, b.get(tenantPath).Body.String(), offered)
	}
	b := signedIn(t, pageStand(t), nil)
	for _, path := range []string{tenantPath, "/ui/fleet", "/ui/settings", "/ui/campaigns", "/ui/providers", "/ui/evidence", "/ui/evidence/verify", "/ui/evidence/report"} {
		require.Equal(t, 403, b.get(path).Code, path)
	}
}

func TestPageActions(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	b.get(tenantPath)
	for _, action := range []string{"pause", "resume", "cancel", "retry"} {
		route := fmt.Sprintf("PUT /v1/dek/tenants/%s/dek/rotations/%s/%s", tenantID, rotationID, action)
		s.vault.On(route, vaulttest.Reply(200, vaulttest.RotationData))
		require.Equal(t, 303, b.post(tenantPath+"/rotations/"+rotationID, "action", action).Code)
		require.Len(t, s.vault.Seen(route), 1)
	}
	require.Equal(t, 400, b.post(tenantPath+"/rotations/"+rotationID, "action", "../../x").Code)
	require.Equal(t, 404, b.post("/ui/tenants/..%2f..%2fsys/rotate").Code)
	require.Equal(t, 404, b.post(tenantPath+"/rotations/rot-x", "action", "pause").Code)

	route := "PUT /v1/dek/tenants/" + tenantID
	s.vault.On(route, vaulttest.Reply(204, ""))
	require.Equal(t, 303, b.post(tenantPath+"/settings", "rotation_interval", "30d", "rotation_paused", "true").Code)
	require.Equal(t, map[string]any{"rotation_interval": "30d", "rotation_paused": true, "must_exist": true}, s.vault.Seen(route)[0].Body)

	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(409, `{"errors":["a rotation is running"]}`))
	require.Equal(t, 409, b.post(tenantPath+"/rotate").Code)
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(403, vaulttest.Denied))
	require.Equal(t, 403, b.post(tenantPath+"/rotate").Code, "Vault decides")
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`))
	require.Equal(t, 503, b.post(tenantPath+"/rotate").Code)
}

func TestPageDestroysOnlyWhatIsNamed(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	b.get(tenantPath)
	atDelete, atDestroy := "DELETE /v1/dek/tenants/"+tenantID, "PUT /v1/dek/tenants/"+tenantID+"/dek/versions/1/destroy"
	s.vault.On(atDelete, vaulttest.Reply(200, `{"data": {"state": "deleting", "delete_after": "2025-08-01T00:00:00Z"}}`))
	s.vault.On(atDestroy, vaulttest.Reply(204, ""))
	for _, typed := range []string{"", "another", tenantID, strings.ToUpper(evilName)} {
		require.Equal(t, 400, b.post(tenantPath+"/delete", "confirm", typed).Code, typed)
		require.Equal(t, 400, b.post(tenantPath+"/versions/1", "confirm", typed).Code, typed)
	}
	require.Empty(t, s.vault.Seen(atDelete))
	require.Empty(t, s.vault.Seen(atDestroy))
	require.Equal(t, 303, b.post(tenantPath+"/versions/1", "confirm", evilName).Code)
	require.Equal(t, 303, b.post(tenantPath+"/delete", "confirm", evilName).Code)
	require.Len(t, s.vault.Seen(atDelete), 1)
	require.Contains(t, b.get(tenantPath).Body.String(), "2025-08-01 00:00 UTC", "until when it can be undone")
}

// TestPageSaysUntilWhenADeletionCanBeUndone: by the organization's window, where the person
// may know it.
func TestPageSaysUntilWhenADeletionCanBeUndone(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	shown := b.get(tenantPath).Body.String()
	require.Contains(t, shown, "What is lost here: 25 credentials, 10 API keys, 50 secrets.")
	require.Contains(t, shown, "a week, or longer where the organization requires it")
	may := maps.Clone(mayAll)
	may["config"] = "read"
	allow(s, may)
	for window, until := range map[time.Duration]time.Duration{0: 168 * time.Hour, 24 * time.Hour: 168 * time.Hour, 720 * time.Hour: 720 * time.Hour} {
		s.vault.On("GET /v1/dek/config", vaulttest.Reply(200, fmt.Sprintf(`{"data": {"min_deletion_window": %d}}`, int(window.Seconds()))))
		require.Contains(t, b.get(tenantPath).Body.String(), "it can be restored until <time datetime=\""+s.clock.now().Add(until).UTC().Format(time.RFC3339))
	}
}

// TestPageOfAMillion: a part of the tenants, the way to the next, and numbers that can be read.
func TestPageOfAMillion(t *testing.T) {
	s := pageStand(t)
	may := maps.Clone(mayAll)
	may["status"] = "read"
	b := signedIn(t, s, may)
	var tenants []map[string]any
	for n := range 50 {
		tenants = append(tenants, map[string]any{"tenant_id": fmt.Sprintf("00000000-0000-4000-8000-%012d", n), "state": "active"})
	}
	raw, err := json.Marshal(map[string]any{"data": map[string]any{
		"tenants": tenants, "key_ages": []any{map[string]any{"from_days": 0, "to_days": 30, "tenants": 987_654}}, "due_by_week": []any{},
	}})
	require.NoError(t, err)
	s.vault.On(atFleet, vaulttest.Reply(200, string(raw)))
	s.vault.On("GET /v1/dek/status", vaulttest.Reply(200, `{"data": {"tenants": 1000000, "index_complete": true, "overdue": 12345}}`))
	shown := b.get("/ui/fleet").Body.String()
	for _, number := range []string{"1,000,000", "12,345", "987,654"} {
		require.Contains(t, shown, number)
	}
	require.Equal(t, 50, strings.Count(shown, `href="/ui/tenants/0`))
	require.Contains(t, shown, "after=00000000-0000-4000-8000-000000000049")
	s.vault.On("GET /v1/dek/status", vaulttest.Reply(200, `{"data": {"tenants": 1000000, "index_complete": false}}`))
	require.Contains(t, b.get("/ui/fleet").Body.String(), "figures are lower bounds")
}

func TestPageWithoutVault(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	s.vault.On(atCapabilities, vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`))
	w := b.get("/ui/fleet")
	require.Equal(t, 503, w.Code)
	require.Contains(t, w.Body.String(), "Vault cannot answer")
	allow(s, mayAll)
	require.Equal(t, 200, b.get("/ui/fleet").Code, "the session goes on")
}

func TestPageFleet(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	w := b.get("/ui/fleet?search=a%26b&state=paused&sort=age&after=" + tenantID)
	require.Equal(t, 200, w.Code)
	require.Len(t, s.vault.Seen(atFleet), 1)
	require.Contains(t, w.Body.String(), "First part")
	s.vault.On(atFleet, vaulttest.Reply(200, `{"data": {"tenants": [], "key_ages": [], "due_by_week": []}}`))
	require.Contains(t, b.get("/ui/fleet").Body.String(), "There is no tenant yet.")
}
