// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// namedTenant is a tenant with a name.
func namedTenant(t *testing.T, s *devstack.Stack, name string) string {
	t.Helper()
	id := uuid.NewString()
	a := callRoot(t, s, http.MethodPut, "dek/tenants/"+id, map[string]any{"display_name": name})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	return id
}

// slowTenant is a tenant whose rotation takes long enough to be paused.
func slowTenant(t *testing.T, s *devstack.Stack, name string) string {
	t.Helper()
	id := namedTenant(t, s, name)
	items := make([]any, 0, 2000)
	for i := range 2000 {
		items = append(items, map[string]any{"kind": "secrets", "name": "filler/" + uuid.NewString(), "data": map[string]any{"v": strings.Repeat("v", 4000), "i": i}})
	}
	a := callRoot(t, s, http.MethodPut, "dek/tenants/"+id+"/items", map[string]any{"items": items})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	return id
}

// TestPageShowsEachRoleItsOwn signs in as each role. What the role may not do is neither
// shown nor possible.
func TestPageShowsEachRoleItsOwn(t *testing.T) {
	browser := chrome(t)
	s := shared(t)
	const name = "Roles & <b>rights</b>"
	tenant := namedTenant(t, s, name)
	at := "/ui/tenants/" + tenant
	waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
	views := []string{"fleet", "campaigns", "settings", "providers", "evidence"}
	for role, may := range map[string]struct {
		views   string
		status  int // of the tenant's page
		actions string
	}{
		"security_admin": {"", 200, "rotate"},
		"super_admin":    {"fleet campaigns settings providers", 200, "rotate save"},
		"key_admin":      {"fleet settings", 403, ""},
		"kek_admin":      {"providers", 403, ""},
		"key_destroyer":  {"", 200, "delete destroy"},
		"key_importer":   {"", 403, ""},
		"application":    {"", 403, ""},
		"auditor":        {"fleet campaigns settings providers evidence", 200, ""},
	} {
		t.Run(role, func(t *testing.T) {
			b := newTab(browser, t, s)
			b.signIn("jwt", mint(t, s, tenant, role))
			assert.Empty(t, b.cookieNames(), "no script reads the session")
			for _, view := range views {
				allowed := strings.Contains(may.views, view)
				assert.Equal(t, allowed, b.has("nav a[href='/ui/"+view+"']"), view)
				if allowed {
					assert.Equal(t, 200, b.open("/ui/"+view), view)
				}
			}
			require.Equal(t, may.status, b.open(at))
			for _, action := range []string{"rotate", "save", "delete", "destroy"} {
				assert.Equal(t, strings.Contains(may.actions, action), b.has("#"+action), action)
			}
			for action, form := range map[string]struct {
				path   string
				fields map[string]string
			}{
				"rotate":  {at + "/rotate", nil},
				"save":    {at + "/settings", map[string]string{"rotation_interval": "90_DAYS"}},
				"delete":  {at + "/delete", map[string]string{"confirm": tenant}},
				"destroy": {at + "/destroy", map[string]string{"version": "1", "confirm": tenant}},
			} {
				if strings.Contains(may.actions, action) {
					continue
				}
				// The page asks the administrator to type this name before a deletion.
				if role == "super_admin" || role == "auditor" {
					form.fields = withConfirm(form.fields, name)
				}
				assert.Equal(t, http.StatusForbidden, b.postAnyway(form.path, form.fields), action)
			}
			for path, view := range map[string]string{"/ui/campaigns": "super_admin", "/ui/settings": "super_admin key_admin"} {
				if !strings.Contains(view, role) {
					assert.Equal(t, http.StatusForbidden, b.postAnyway(path, map[string]string{"scope": "these", "tenants": tenant, "rotation_interval": "90_DAYS"}), path)
				}
			}
			require.Equal(t, 200, b.press("#sign-out"))
			assert.Equal(t, http.StatusUnauthorized, b.open(at))
		})
	}
	a := callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant+"/dek", nil)
	assert.EqualValues(t, 2, a.data()["current_version"], "nobody has done what was not offered")
}

func withConfirm(fields map[string]string, name string) map[string]string {
	out := map[string]string{}
	for k, v := range fields {
		out[k] = v
	}
	if _, asked := out["confirm"]; asked {
		out["confirm"] = name
	}
	return out
}

// TestPageChangesSettings changes intervals, a tenant's and the organization's, and
// makes tenants due.
func TestPageChangesSettings(t *testing.T) {
	browser := chrome(t)
	s := shared(t)
	tenant := namedTenant(t, s, "Settings")
	b := newTab(browser, t, s)
	b.signIn("jwt", mint(t, s, tenant, "super_admin"))
	b.open("/ui/tenants/" + tenant)
	b.fill("input[name=rotation_interval]", "30d")
	b.run(chromedp.Click("input[name=rotation_paused]", chromedp.ByQuery))
	require.Equal(t, 200, b.press("#save"))
	a := callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant, nil)
	assert.Equal(t, "30d", a.data()["rotation_interval"])
	assert.Equal(t, true, a.data()["rotation_paused"])
	b.fill("input[name=rotation_interval]", "soon")
	require.Equal(t, http.StatusBadRequest, b.press("#save"))
	assert.Contains(t, b.text(), "rotation_interval")

	keyAdmin := newTab(browser, t, s)
	keyAdmin.signIn("jwt", mint(t, s, "", "key_admin"))
	for b, interval := range map[*tab]string{b: "180_DAYS", keyAdmin: "90_DAYS"} {
		b.open("/ui/settings")
		b.fill("select[name=rotation_interval]", interval)
		require.Equal(t, 200, b.press("#save"))
		a = callRoot(t, s, http.MethodGet, "dek/key/rotationSettings", nil)
		assert.Equal(t, interval, a.data()["rotation_interval"])
		b.fill("select[name=rotation_interval]", "365_DAYS")
		require.Equal(t, 200, b.press("#save"))
	}

	b.open("/ui/campaigns")
	b.fill("textarea[name=tenants]", tenant)
	require.Equal(t, 200, b.press("#start"))
	assert.Contains(t, b.text(), "0 tenants are due now. 1 paused ones were passed over.")
	b.run(chromedp.Click("input[name=scope][value=all]", chromedp.ByQuery))
	require.Equal(t, http.StatusBadRequest, b.press("#start"), "all tenants need the words")
}

// TestPageDeletesWhatIsNamed destroys a version of a tenant's key, and deletes the tenant, as
// one role, and restores it as another.
func TestPageDeletesWhatIsNamed(t *testing.T) {
	browser := chrome(t)
	s := shared(t)
	tenant := namedTenant(t, s, "Deleted")
	waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
	destroyer := newTab(browser, t, s)
	destroyer.signIn("jwt", mint(t, s, "", "key_destroyer"))
	destroyer.open("/ui/tenants/" + tenant)
	destroyer.fill("form[action$='/destroy'] input[name=version]", "1")
	destroyer.fill("form[action$='/destroy'] input[name=confirm]", tenant)
	require.Equal(t, 200, destroyer.press("#destroy"))
	assert.Contains(t, destroyer.text(), "Version 1 is destroyed.")
	versions, _ := callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant+"/dek", nil).data()["versions"].([]any)
	require.Len(t, versions, 2)
	assert.Equal(t, "destroyed", versions[0].(map[string]any)["state"])
	destroyer.fill("form[action$='/delete'] input[name=confirm]", "Deleted by guess")
	require.Equal(t, http.StatusBadRequest, destroyer.press("#delete"))
	destroyer.open("/ui/tenants/" + tenant)
	destroyer.fill("form[action$='/delete'] input[name=confirm]", tenant)
	require.Equal(t, 200, destroyer.press("#delete"))
	assert.Contains(t, destroyer.text(), "It can be restored until")
	admin := newTab(browser, t, s)
	admin.signIn("jwt", mint(t, s, "", "super_admin"))
	admin.open("/ui/tenants/" + tenant)
	assert.Contains(t, admin.text(), "This tenant is being deleted")
	require.Equal(t, 200, admin.press("#restore"))
	assert.Contains(t, admin.text(), "The tenant is restored.")
	assert.Equal(t, "active", callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant, nil).data()["state"])
}

// TestPageOfScripts has names that are scripts, on every view that shows them. The tab
// fails on a dialog, an exception or a report of the Content-Security-Policy.
func TestPageOfScripts(t *testing.T) {
	browser := chrome(t)
	s := shared(t)
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
	tenant := namedTenant(t, s, evil)
	a := callRoot(t, s, http.MethodPut, "dek/tenants/"+tenant+"/dek/rotate", map[string]any{"reason": evil})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	rotation, _ := a.data()["rotation_id"].(string)
	waitRotation(t, s, tenant, rotation, "completed")
	b := newTab(browser, t, s)
	b.signIn("jwt", mint(t, s, "", "super_admin"))
	for _, path := range []string{"/ui/fleet?sort=name&search=" + tenant, "/ui/fleet?search=%3Cscript%3Ealert(3)%3C/script%3E", "/ui/tenants/" + tenant, "/ui/tenants/" + tenant + "/rotations/" + rotation} {
		require.Equal(t, 200, b.open(path))
		assert.False(t, b.has("main script, main img"), path)
	}
	b.open("/ui/tenants/" + tenant)
	assert.Contains(t, b.text(), evil)
}

// TestPageSessionEnds revokes the token behind a session in the middle of a form.
func TestPageSessionEnds(t *testing.T) {
	browser := chrome(t)
	s := shared(t)
	tenant := namedTenant(t, s, "Ending")
	a := callRoot(t, s, http.MethodPut, "auth/token/create", map[string]any{"policies": []string{"root"}, "ttl": "10m"})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	auth, _ := a.Body["auth"].(map[string]any)
	token, _ := auth["client_token"].(string)
	b := newTab(browser, t, s)
	b.signIn("token", token)
	require.Equal(t, 200, b.open("/ui/tenants/"+tenant))
	a = callRoot(t, s, http.MethodPut, "auth/token/revoke", map[string]any{"token": token})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	require.Equal(t, http.StatusUnauthorized, b.press("#rotate"))
	assert.Contains(t, b.text(), "Your session has ended, and nothing was changed.")
	assert.NotContains(t, b.text(), token)
	assert.Equal(t, http.StatusUnauthorized, b.open("/ui/tenants/"+tenant))
}
