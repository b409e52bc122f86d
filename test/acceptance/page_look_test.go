// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// look is a screen and a colour scheme.
type look struct {
	name, scheme  string
	width, height int64
}

var looks = []look{
	{"desktop-light", "light", 1280, 900},
	{"desktop-dark", "dark", 1280, 900},
	{"phone-light", "light", 390, 844},
	{"phone-dark", "dark", 390, 844},
}

// TestPageIsForEveryone looks at each view on a desktop and a phone, light and dark:
// axe-core finds nothing serious by WCAG 2.2 AA, nothing is wider than the screen, and
// the first stop of the keyboard skips to the content. With DEK_SCREENSHOTS it leaves
// pictures in that directory.
func TestPageIsForEveryone(t *testing.T) {
	browser := chrome(t)
	s := start(t, devstack.Options{})
	tenant, rotation := lookedAt(t, s)
	checker := axe(t)
	b := newTab(browser, t, s)
	views := []struct{ name, path string }{
		{"sign-in", "/ui/"},
		{"fleet", "/ui/fleet"},
		{"tenant", "/ui/tenants/" + tenant},
		{"rotation", "/ui/tenants/" + tenant + "/rotations/" + rotation},
		{"campaigns", "/ui/campaigns"},
		{"settings", "/ui/settings"},
		{"providers", "/ui/providers"},
		{"evidence", "/ui/evidence"},
		{"entry", "/ui/evidence/entries/1"},
		{"verify", "/ui/evidence/verify"},
		{"report", "/ui/evidence/report?from=" + time.Now().UTC().Format(time.DateOnly) + "&to=" + time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)},
		{"error", "/ui/none"},
	}
	for _, view := range views {
		t.Run(view.name, func(t *testing.T) {
			if view.name == "fleet" {
				b.signIn("token", s.RootToken())
			}
			b.open(view.path)
			for _, l := range looks {
				b.run(emulation.SetDeviceMetricsOverride(l.width, l.height, 1, false),
					emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}))
				var width int64
				b.evaluate("document.documentElement.scrollWidth", &width)
				assert.LessOrEqual(t, width, l.width, "%s: wider than the screen", l.name)
				assert.Empty(t, serious(b, checker), l.name)
				b.screenshot(view.name + "-" + l.name)
			}
		})
	}
	b.open("/ui/fleet")
	b.run(chromedp.KeyEvent("\t"))
	var focused string
	b.evaluate("document.activeElement.getAttribute('href')", &focused)
	assert.Equal(t, "#main", focused)
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

// screenshot leaves a picture where DEK_SCREENSHOTS says.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("DEK_SCREENSHOTS")
	if dir == "" {
		return
	}
	var raw []byte
	b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		raw, err = page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatWebp).WithQuality(70).Do(ctx)
		return err
	}))
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".webp"), raw, 0o600))
}

// lookedAt makes a fleet, and returns a tenant with a history and its latest rotation.
func lookedAt(t *testing.T, s *devstack.Stack) (tenant, rotation string) {
	t.Helper()
	for i, name := range []string{"Acme", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbour", "Iris", "Juniper"} {
		id := namedTenant(t, s, fmt.Sprintf("%s, branch %d", name, i+1))
		if i%4 == 3 {
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
