// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// derived are texts whose names are put together from what the engine says, or from a
// list.
var derived = regexp.MustCompile(`^(word\.|action\.|said\.(pause|resume|cancel|retry)$|nav\.)`)

func source(t *testing.T, patterns ...string) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			all.Write(raw)
		}
	}
	return all.String()
}

func TestEveryTextIsThereAndUsed(t *testing.T) {
	used := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?:\bt|text\()\s*"([a-z0-9.-]+)"`).FindAllStringSubmatch(source(t, "*.go", "templates/*.html"), -1) {
		if strings.HasSuffix(match[1], ".") {
			continue // the beginning of a derived name
		}
		require.Contains(t, texts, match[1])
		used[match[1]] = true
	}
	for _, p := range places {
		require.Contains(t, texts, p.text)
	}
	for _, status := range []string{"in_progress", "paused", "failed"} {
		for _, action := range actionsOf(status) {
			require.Contains(t, texts, "action."+action)
			require.Contains(t, texts, "said."+action)
		}
	}
	for name := range texts {
		require.True(t, used[name] || derived.MatchString(name), "%s is not used", name)
	}
}

func TestSettingsHaveUnits(t *testing.T) {
	for value, want := range map[string]string{"31536000": "365d", "3600": "1h", "90": "90s", "120": "2m", "0": "0s", "null": "null", `"x"`: "x"} {
		require.Equal(t, want, settingText("data_key_lease", json.RawMessage(value)))
	}
	require.Equal(t, "262144", settingText("max_item_bytes", json.RawMessage("262144")))
}

// TestNothingInTheHTMLRuns: the Content-Security-Policy has no exception, so that what
// these forbid would not work.
func TestNothingInTheHTMLRuns(t *testing.T) {
	html, scripts := source(t, "templates/*.html"), source(t, "static/*.js")
	all, files := regexp.MustCompile(`(?i)<script`), regexp.MustCompile(`<script (?:type="module" )?src="/ui/static/[a-z]+\.js"(?: defer)?></script>`)
	require.Len(t, all.FindAllString(html, -1), len(files.FindAllString(html, -1)), "a script in the HTML")
	requireNone(t, html, `(?i)<style|\sstyle=|\son[a-z]+=|javascript:|https?://|\starget=`)
	requireNone(t, scripts, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://`)
	requireNone(t, source(t, "*.go"), `template\.(HTML|JS|CSS|URL)\b`)
	require.NotContains(t, policy, "unsafe")
}

func requireNone(t *testing.T, in, pattern string) {
	t.Helper()
	require.Empty(t, regexp.MustCompile(pattern).FindAllString(in, -1))
}
