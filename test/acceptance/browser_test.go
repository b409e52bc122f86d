// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/browser"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// chrome is one browser for all tabs of a test. Without one a test says that it did not
// run, and fails under CI=true.
func chrome(t *testing.T) context.Context {
	t.Helper()
	ctx, stop, err := browser.Start(t.Context())
	if errors.Is(err, browser.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skipf("did not run: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(stop)
	return ctx
}

// tab is one person's browser: its cookies are its own.
type tab struct {
	t   *testing.T
	s   *devstack.Stack
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// newTab opens a tab that remembers what must not happen: reports of the
// Content-Security-Policy, exceptions and dialogs.
func newTab(chromium context.Context, t *testing.T, s *devstack.Stack) *tab {
	t.Helper()
	ctx, leave := chromedp.NewContext(chromium, chromedp.WithTargetID(newWindow(chromium, t)))
	t.Cleanup(leave)
	b := &tab{t: t, s: s, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *audits.EventIssueAdded:
			if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
				b.problem("CSP report: " + string(e.Issue.Details.ContentSecurityPolicyIssueDetails.ViolatedDirective))
			}
		case *runtime.EventExceptionThrown:
			b.problem("exception: " + e.ExceptionDetails.Error())
		case *page.EventJavascriptDialogOpening:
			b.problem("dialog: " + e.Message)
			go func() { _ = chromedp.Run(ctx, page.HandleJavaScriptDialog(false)) }()
		}
	})
	// The first run opens the tab, which lives as long as the context of that run.
	require.NoError(t, chromedp.Run(ctx, audits.Enable()))
	t.Cleanup(func() { b.requireQuiet() })
	return b
}

// newWindow opens a window with a profile of its own.
func newWindow(chromium context.Context, t *testing.T) target.ID {
	t.Helper()
	ctx := cdp.WithExecutor(chromium, chromedp.FromContext(chromium).Browser)
	profile, err := target.CreateBrowserContext().Do(ctx)
	require.NoError(t, err)
	id, err := target.CreateTarget("about:blank").WithBrowserContextID(profile).WithNewWindow(true).Do(ctx)
	require.NoError(t, err)
	return id
}

func (b *tab) problem(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, what)
}

func (b *tab) requireQuiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, b.problems)
}

func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, browser.Patience)
	defer cancel()
	require.NoError(b.t, chromedp.Run(ctx, actions...))
}

// follow does what leads to another page, and returns that one's status.
func (b *tab) follow(actions ...chromedp.Action) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, browser.Patience)
	defer cancel()
	response, err := chromedp.RunResponse(ctx, actions...)
	require.NoError(b.t, err)
	return int(response.Status)
}

func (b *tab) open(path string) int {
	b.t.Helper()
	return b.follow(chromedp.Navigate(b.s.ProxyURL() + path))
}

// press clicks a button that sends a form.
func (b *tab) press(selector string) int {
	b.t.Helper()
	return b.follow(chromedp.Click(selector, chromedp.ByQuery))
}

// fill puts a value into a field of a form.
func (b *tab) fill(selector, value string) {
	b.t.Helper()
	b.run(chromedp.SetValue(selector, value, chromedp.ByQuery))
}

func (b *tab) has(selector string) bool {
	b.t.Helper()
	var found bool
	b.evaluate(fmt.Sprintf("document.querySelector(%s) !== null", inScript(selector)), &found)
	return found
}

// text is what the page shows.
func (b *tab) text() string {
	b.t.Helper()
	var shown string
	b.evaluate("document.querySelector('main').innerText", &shown)
	return shown
}

func (b *tab) evaluate(script string, out any) {
	b.t.Helper()
	b.run(chromedp.Evaluate(script, out, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
}

// await polls until the page shows a text.
func (b *tab) await(shown string) {
	b.t.Helper()
	b.awaitTrue("document.querySelector('main')?.innerText.includes(" + inScript(shown) + ") ?? false")
}

// awaitElement polls until the page has an element.
func (b *tab) awaitElement(selector string) {
	b.t.Helper()
	b.awaitTrue("document.readyState === 'complete' && document.querySelector(" + inScript(selector) + ") !== null")
}

func (b *tab) awaitTrue(condition string) {
	b.t.Helper()
	is := assert.Eventually(b.t, func() bool {
		var is bool
		ctx, cancel := context.WithTimeout(b.ctx, browser.Patience)
		defer cancel()
		// A page that is being replaced has no context to ask in.
		return chromedp.Run(ctx, chromedp.Evaluate(condition, &is)) == nil && is
	}, browser.Patience, rotationTick)
	if !is {
		require.Failf(b.t, "the page never had what was awaited", "%s: %s", condition, b.text())
	}
}

// signIn signs in with a JWT, or a token of Vault's.
func (b *tab) signIn(way, credential string) {
	b.t.Helper()
	b.open("/ui/")
	b.run(chromedp.Click("input[name=way][value="+way+"]", chromedp.ByQuery), chromedp.SetValue("input[name="+way+"]", credential, chromedp.ByQuery))
	require.Equal(b.t, 200, b.press("#sign-in button"))
	require.True(b.t, b.has("#sign-out"), "signed in")
}

// postAnyway sends a form that the page does not offer, with the session's CSRF token,
// and returns the status.
func (b *tab) postAnyway(path string, fields map[string]string) int {
	b.t.Helper()
	raw, err := json.Marshal(fields)
	require.NoError(b.t, err)
	var status int
	b.evaluate(fmt.Sprintf(`(async () => {
		const form = new URLSearchParams(%s);
		form.set("csrf", document.querySelector("input[name=csrf]").value);
		return (await fetch(%s, { method: "POST", body: form, redirect: "manual" })).status;
	})()`, raw, inScript(path)), &status)
	return status
}

func inScript(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}

// cookie is a cookie of the tab as the browser keeps it.
func (b *tab) cookieNames() string {
	b.t.Helper()
	var visible string
	b.evaluate("document.cookie", &visible)
	return visible
}
