// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var versionForm = regexp.MustCompile(`^(\S+) (v\d+\.\d+\.\d+\S*) \(commit (\S+), go1\.\S+\)\n$`)

// TestVersionIsShown asks each program for its version and commit, and looks for them where
// an operator does: in the log of the start, in metrics and in the proxy's health.
func TestVersionIsShown(t *testing.T) {
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	version, commit := "", ""
	for _, name := range []string{"vault-plugin-dek", "dek-proxy", "dek"} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bin", name), "--version")
		cmd.Env = []string{"HOME=" + t.TempDir()} // neither Vault's environment of a plugin nor a Vault
		out, err := cmd.Output()
		require.NoError(t, err, name)
		said := versionForm.FindStringSubmatch(string(out))
		require.NotNil(t, said, "%s says %q", name, out)
		assert.Equal(t, name, said[1])
		if version == "" {
			version, commit = said[2], said[3]
		}
		assert.Equal(t, []string{version, commit}, said[2:], name)
	}
	if _, err := os.Stat(filepath.Join(root, ".git")); err == nil {
		assert.Regexp(t, `^[0-9a-f]{40}(-dirty)?$`, commit)
	}

	s := shared(t)
	v, c := regexp.QuoteMeta(version), regexp.QuoteMeta(commit)
	for process, line := range map[string]string{
		"vault": `plugin starts.*commit=` + c + ` version=` + v + `\b|plugin starts.*version=` + v + ` commit=` + c + `\b`,
		"proxy": `"@message":"starting".*"commit":"` + c + `","version":"` + v + `"`,
	} {
		log, err := os.ReadFile(s.LogPath(process))
		require.NoError(t, err)
		assert.Regexp(t, line, string(log), process)
	}
	info := `build_info\{commit="` + c + `",goversion="go[^"]+",version="` + v + `"\} 1\n`
	assert.Regexp(t, `(?m)^dek_`+info, string(callRoot(t, s, http.MethodGet, "dek/metrics", nil).Raw))
	assert.Regexp(t, `(?m)^dek_proxy_`+info, string(callProxy(t, s, http.MethodGet, "/metrics", nil).Raw))
	about := callProxy(t, s, http.MethodGet, "/api/v1/admin/health", nil).Body["proxy"]
	assert.Equal(t, map[string]any{"version": version, "commit": commit}, about)
}
