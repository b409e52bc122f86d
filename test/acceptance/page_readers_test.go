// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPageByKeyboard signs in, finds a tenant, rotates its key, deletes and restores it, and
// signs out, without a mouse.
func TestPageByKeyboard(t *testing.T) {
	s := shared(t)
	const name = "By keyboard alone"
	tenant := namedTenant(t, s, name)
	b := newTab(chrome(t), t, s)
	require.Equal(t, http.StatusOK, b.open("/ui/"))
	b.tabTo("input[name=way]:checked")
	b.strike(kb.ArrowDown + kb.ArrowDown) // from the password to the Vault token
	b.tabTo("input[name=token]")
	b.strike(s.RootToken())
	require.Equal(t, http.StatusOK, b.enter())

	b.tabTo("input[name=search]")
	b.strike(name)
	require.Equal(t, http.StatusOK, b.enter())
	b.tabTo("#tenants a")
	require.Equal(t, http.StatusOK, b.enter())
	b.tabTo("input[name=reason]")
	b.strike("typed")
	require.Equal(t, http.StatusOK, b.enter())
	assert.Contains(t, b.text(), "The rotation has started.")
	b.awaitElement("#rotate") // the page is loaded again once the rotation has ended
	require.Equal(t, http.StatusOK, b.open("/ui/tenants/"+tenant))
	assert.Contains(t, b.text(), "typed")

	b.tabTo("form[action$='/delete'] input[name=confirm]")
	b.strike(name)
	require.Equal(t, http.StatusOK, b.enter())
	assert.Contains(t, b.text(), "It can be restored until")
	b.tabTo("#restore")
	require.Equal(t, http.StatusOK, b.enter())
	assert.Equal(t, "active", callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant, nil).data()["state"])
	b.tabTo("#sign-out")
	require.Equal(t, http.StatusOK, b.enter())
	assert.False(t, b.has("#sign-out"))
}

func (b *tab) strike(keys string) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(keys))
}

// enter strikes the key that leads to another page, and returns that one's status.
func (b *tab) enter() int {
	b.t.Helper()
	return b.follow(chromedp.KeyEvent(kb.Enter))
}

// tabTo goes from stop to stop until one matches. At each a person sees where they are.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	const stops = 100
	for range stops {
		b.strike(kb.Tab)
		var stop struct {
			Matches, Shown, Outside bool
			What                    string
		}
		b.evaluate(fmt.Sprintf(`(() => {
			const stop = document.activeElement, at = stop.getBoundingClientRect(), style = getComputedStyle(stop);
			return {
				Matches: stop.matches(%s), Outside: stop === document.body, What: stop.outerHTML.slice(0, 80),
				Shown: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 &&
					at.width > 0 && at.bottom > 0 && at.top < innerHeight && at.right > 0 && at.left < innerWidth,
			};
		})()`, inScript(selector)), &stop)
		assert.True(b.t, stop.Shown || stop.Outside, "nothing shows that this has the focus: %s", stop.What)
		if stop.Matches {
			return
		}
	}
	require.Failf(b.t, "the keyboard does not lead there", "%s", selector)
}

// TestPageTellsTheReadersTime: in the reader's zone and way of writing, with UTC beside it.
func TestPageTellsTheReadersTime(t *testing.T) {
	s := shared(t)
	tenant := namedTenant(t, s, "Times")
	waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
	b := newTab(chrome(t), t, s)
	b.run(emulation.SetTimezoneOverride("Asia/Kolkata"), emulation.SetLocaleOverride().WithLocale("de_DE"))
	b.signIn("token", s.RootToken())
	kolkata := time.FixedZone("IST", 5*60*60+30*60)
	for _, path := range []string{"/ui/tenants/" + tenant, "/ui/fleet", "/ui/evidence"} {
		require.Equal(t, http.StatusOK, b.open(path))
		var times []struct{ At, Shown string }
		b.evaluate(`[...document.querySelectorAll("time:not([data-day])")].map((t) => ({ At: t.dateTime, Shown: t.innerText }))`, &times)
		require.NotEmpty(t, times, path)
		for _, one := range times {
			at, err := time.Parse(time.RFC3339, one.At)
			require.NoError(t, err, path)
			assert.Equal(t, at.In(kolkata).Format("02.01.2006, 15:04")+" ("+at.UTC().Format("2006-01-02 15:04")+" UTC)", strings.Join(strings.Fields(one.Shown), " "), path)
		}
	}
}

// TestPageWithoutJavaScript: everything but the verification works, and times are UTC.
func TestPageWithoutJavaScript(t *testing.T) {
	s := shared(t)
	tenant := namedTenant(t, s, "Without scripts")
	b := newTab(chrome(t), t, s)
	b.run(emulation.SetScriptExecutionDisabled(true))
	b.signIn("token", s.RootToken())
	require.Equal(t, http.StatusOK, b.open("/ui/tenants/"+tenant))
	b.fill("input[name=reason]", "without scripts")
	require.Equal(t, http.StatusOK, b.press("#rotate"))
	assert.Contains(t, b.text(), "The rotation has started.")
	var shown string
	b.evaluate(`document.querySelector("#rotations time").innerText`, &shown)
	assert.Regexp(t, `^\d{4}-\d\d-\d\d \d\d:\d\d UTC$`, shown)
	require.Equal(t, http.StatusOK, b.open("/ui/evidence/verify"))
	assert.Contains(t, b.text(), "The verification needs JavaScript.")
	assert.False(t, b.has("#verify button:enabled"))
}
