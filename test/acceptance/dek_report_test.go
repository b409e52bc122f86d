// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
)

// pdfPage begins the object of a page in a PDF that Chromium wrote.
var pdfPage = regexp.MustCompile(`/Type\s*/Page\b[^s]`)

// TestReportInABrowser opens what dek evidence report writes, without any server, and
// prints it: the console stays empty, axe-core finds nothing, and the certificate of
// erasure begins a page. REPORT_TENANTS is how many tenants the report has (20), with the
// time that it takes in the log. REPORT_PDF keeps the print.
func TestReportInABrowser(t *testing.T) {
	tenants := 20
	if text := os.Getenv("REPORT_TENANTS"); text != "" {
		var err error
		tenants, err = strconv.Atoi(text)
		require.NoError(t, err, "REPORT_TENANTS")
	}
	browser := chrome(t)
	story := evidencetest.GoodStory(t, tenants)
	export, path := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "report.html")
	require.NoError(t, os.CopyFS(export, story.Files(t)))
	dek := dekCommand(t)
	began := time.Now()
	code, stdout, stderr := dek(nil, "evidence", "report", export, "--vkey", story.VKey(), "--to", evidencetest.GoodUntil.Format(time.DateOnly), "-o", path)
	took := time.Since(began)
	require.Contains(t, []int{0, 1}, code, "%s%s", stdout, stderr) // 1: today the tenants of the story are overdue, and it says so
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	t.Logf("a report of %d tenants, %d entries verified: %s, %d bytes", tenants, len(story.Leaves), took.Round(time.Millisecond), len(written))

	b := newTab(browser, t, nil)
	chromedp.ListenTarget(b.ctx, func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			b.problem("console: " + e.Entry.Text)
		case *runtime.EventConsoleAPICalled:
			b.problem("console: " + string(e.Type))
		}
	})
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Minute)
	defer cancel()
	var shown string
	require.NoError(t, chromedp.Run(ctx, log.Enable(), chromedp.Navigate("file://"+path), chromedp.Evaluate("document.body.innerText", &shown)))
	for _, text := range []string{strconv.Itoa(tenants), evidencetest.ID(0), evidencetest.ID(tenants - 1), "Certificate of erasure", "NIST SP 800-88r2", story.Origin} {
		assert.Contains(t, shown, text)
	}
	if tenants <= 100 { // axe-core looks at each cell, which of 1,000 tenants takes it minutes
		assert.Empty(t, serious(b, axe(t)))
	}

	var printed []byte
	require.NoError(t, chromedp.Run(ctx, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		printed, _, err = page.PrintToPDF().WithPreferCSSPageSize(true).Do(ctx)
		return err
	})))
	require.True(t, strings.HasPrefix(string(printed), "%PDF-"))
	pages := len(pdfPage.FindAll(printed, -1))
	t.Logf("printed: %d pages, %d bytes", pages, len(printed))
	assert.Greater(t, pages, 2)
	if keep := os.Getenv("REPORT_PDF"); keep != "" {
		require.NoError(t, os.WriteFile(keep, printed, 0o600))
	}
}
