// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/browser"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const axeSHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"

// axe is the accessibility checker that runs in the browser.
func axe(t *testing.T) string {
	t.Helper()
	f, err := os.Open("testdata/axe/axe.min.js.gz")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	unzipped, err := gzip.NewReader(f)
	require.NoError(t, err)
	raw, err := io.ReadAll(unzipped)
	require.NoError(t, err)
	sum := sha256.Sum256(raw)
	require.Equal(t, axeSHA256, hex.EncodeToString(sum[:]))
	return string(raw)
}

var (
	looks = []browser.Look{browser.DesktopLight, browser.DesktopDark, browser.PhoneLight, browser.PhoneDark}
	// twoLooks are for what differs from another view by its text alone.
	twoLooks = []browser.Look{browser.DesktopLight, browser.PhoneDark}
)

// TestPageIsForEveryone looks at each view on a desktop and a phone, light and dark, in an
// empty mount, with one tenant and with some, with Vault sealed, and after a session has
// ended: axe-core finds nothing serious by WCAG 2.2 AA, nothing is wider than the screen,
// and the first stop of the keyboard skips to the content. With DEK_SCREENSHOTS it leaves
// pictures in that directory.
func TestPageIsForEveryone(t *testing.T) {
	s := start(t, devstack.Options{})
	b := &beholder{newTab(chrome(t), t, s), axe(t)}
	b.sees(t, "sign-in", "/ui/", http.StatusOK, looks)
	token := rootToken(t, s)
	b.signIn("token", token)

	b.sees(t, "fleet-empty", "/ui/fleet", http.StatusOK, twoLooks)
	assert.Contains(t, b.text(), "There is no tenant yet.")
	for _, path := range []string{"/ui/campaigns", "/ui/settings", "/ui/providers", "/ui/evidence", "/ui/evidence/verify", reportOfToday()} {
		b.sees(t, "", path, http.StatusOK, twoLooks)
	}
	namedTenant(t, s, "Acme, branch 1")
	b.sees(t, "fleet-one", "/ui/fleet", http.StatusOK, twoLooks)

	tenant, rotation := lookedAt(t, s)
	for _, view := range []struct {
		name, path string
		status     int
	}{
		{"fleet", "/ui/fleet", http.StatusOK},
		{"tenant", "/ui/tenants/" + tenant, http.StatusOK},
		{"rotation", "/ui/tenants/" + tenant + "/rotations/" + rotation, http.StatusOK},
		{"campaigns", "/ui/campaigns", http.StatusOK},
		{"settings", "/ui/settings", http.StatusOK},
		{"providers", "/ui/providers", http.StatusOK},
		{"evidence", "/ui/evidence", http.StatusOK},
		{"entry", "/ui/evidence/entries/1", http.StatusOK},
		{"verify", "/ui/evidence/verify", http.StatusOK},
		{"report", reportOfToday(), http.StatusOK},
		{"error", "/ui/none", http.StatusNotFound},
	} {
		b.sees(t, view.name, view.path, view.status, looks)
	}
	b.open("/ui/fleet")
	b.run(chromedp.KeyEvent(kb.Tab))
	var focused string
	b.evaluate("document.activeElement.getAttribute('href')", &focused)
	assert.Equal(t, "#main", focused)

	require.NoError(t, s.Seal(t.Context()))
	b.sees(t, "sealed", "/ui/fleet", http.StatusServiceUnavailable, twoLooks)
	assert.Contains(t, b.text(), "Vault cannot answer")
	require.NoError(t, s.Unseal(t.Context()))
	require.Equal(t, http.StatusOK, b.open("/ui/fleet"), "the session goes on")
	a := callRoot(t, s, http.MethodPut, "auth/token/revoke", map[string]any{"token": token})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	b.sees(t, "ended", "/ui/tenants/"+tenant, http.StatusUnauthorized, twoLooks)
	assert.Contains(t, b.text(), "Your session has ended")
	assert.NotContains(t, b.text(), "Kestrel")
}

func reportOfToday() string {
	day := func(n int) string { return time.Now().UTC().AddDate(0, 0, n).Format(time.DateOnly) }
	return "/ui/evidence/report?from=" + day(0) + "&to=" + day(1)
}

// beholder is a tab that looks at pages as different people do.
type beholder struct {
	*tab
	checker string
}

// sees opens a page and looks at it. With a name it leaves pictures.
func (b *beholder) sees(t *testing.T, name, path string, status int, looks []browser.Look) {
	t.Helper()
	require.Equal(t, status, b.open(path), path)
	for _, l := range looks {
		b.run(l.Show())
		var width int64
		b.evaluate("document.documentElement.scrollWidth", &width)
		assert.LessOrEqual(t, width, l.Width, "%s, %s: wider than the screen", path, l.Name)
		assert.Empty(t, serious(b.tab, b.checker), "%s, %s", path, l.Name)
		if name != "" {
			b.run(browser.Picture(name + "-" + l.Name))
		}
	}
}

// rootToken is a token that may do everything, and can be revoked.
func rootToken(t *testing.T, s *devstack.Stack) string {
	t.Helper()
	a := callRoot(t, s, http.MethodPut, "auth/token/create", map[string]any{"policies": []string{"root"}, "ttl": "1h"})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	auth, _ := a.Body["auth"].(map[string]any)
	token, _ := auth["client_token"].(string)
	require.NotEmpty(t, token)
	return token
}

// serious are the findings of axe-core that keep people out.
func serious(b *tab, checker string) []string {
	b.t.Helper()
	var found []string
	b.evaluate(checker+`;(async () => {
		const result = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
		return result.violations.filter((v) => ["serious", "critical"].includes(v.impact))
			.map((v) => v.id + ": " + v.nodes.map((n) => n.html.slice(0, 120)).slice(0, 3).join(" | "));
	})()`, &found)
	return found
}

// lookedAt makes a fleet, and returns a tenant with a history and its latest rotation.
func lookedAt(t *testing.T, s *devstack.Stack) (tenant, rotation string) {
	t.Helper()
	for i, name := range []string{"Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Iris", "Juniper"} {
		id := namedTenant(t, s, fmt.Sprintf("%s, branch %d", name, i+2))
		if i%4 == 2 {
			a := callRoot(t, s, http.MethodPut, "dek/tenants/"+id, map[string]any{"rotation_paused": true})
			require.Equal(t, http.StatusOK, a.Status, a.errors())
		}
	}
	tenant = namedTenant(t, s, "Kestrel, main")
	items := []any{}
	for i := range 200 {
		items = append(items, map[string]any{"kind": "credentials", "name": fmt.Sprintf("db/%d", i), "data": map[string]any{"v": strings.Repeat("v", 100)}})
	}
	a := callRoot(t, s, http.MethodPut, "dek/tenants/"+tenant+"/items", map[string]any{"items": items})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	for _, reason := range []string{"the yearly rotation", "a laptop was lost", "moved to another team"} {
		a := callRoot(t, s, http.MethodPut, "dek/tenants/"+tenant+"/dek/rotate", map[string]any{"reason": reason})
		require.Equal(t, http.StatusOK, a.Status, a.errors())
		rotation, _ = a.data()["rotation_id"].(string)
		waitRotation(t, s, tenant, rotation, "completed")
	}
	return tenant, rotation
}
