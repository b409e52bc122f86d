// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/release"
)

// archived puts a release's archive with its sums into dir: that of DEK_RELEASE, a
// directory as make release leaves it, or else one of the binaries in bin/.
func archived(t *testing.T, root, dir string) (version string) {
	t.Helper()
	version, err := release.Version(root)
	require.NoError(t, err)
	p := release.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}
	if made := os.Getenv("DEK_RELEASE"); made != "" {
		for _, name := range []string{p.Named("vault-plugin-dek", version) + ".tar.gz", release.SumsFile} {
			require.NoError(t, os.Symlink(filepath.Join(made, name), filepath.Join(dir, name))) // it may lie on another disk
		}
		return version
	}
	c := release.Contents{Platform: p, Source: release.Source{Version: version, Commit: "unknown"}, Binaries: map[string][]byte{}, Modified: time.Unix(0, 0)}
	for _, command := range release.Commands {
		c.Binaries[command], err = os.ReadFile(filepath.Join(root, "bin", command))
		require.NoError(t, err)
	}
	c.Documents, err = release.Read(root, release.Documents...)
	require.NoError(t, err)
	packed, err := c.Archive()
	require.NoError(t, err)
	name := c.Name() + ".tar.gz"
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), packed, 0o600))
	sums := release.Sums([]release.File{{Name: name, Data: packed}, {Name: p.Named("vault-plugin-dek", version)}})
	require.NoError(t, os.WriteFile(filepath.Join(dir, release.SumsFile), sums, 0o600))
	return version
}

// emptyServer starts a server in development mode, which knows nothing of the plugin.
func emptyServer(t *testing.T, bin, plugins, token string) (address string) {
	t.Helper()
	for range 5 { // another process may take the port first
		if address, up := launchServer(t, bin, plugins, token); up {
			return address
		}
	}
	require.Fail(t, "the server does not start")
	return ""
}

// launchServer starts the server on a port that was free a moment ago. It is not up if it
// has ended instead of answering.
func launchServer(t *testing.T, bin, plugins, token string) (address string, up bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listen := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+token,
		"-dev-listen-address="+listen, "-dev-plugin-dir="+plugins)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	address = "http://" + listen
	require.Eventually(t, func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		// Another process may have taken the port first; its server does not know this token.
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/v1/auth/token/lookup-self", http.NoBody)
		require.NoError(t, err)
		req.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(req)
		up = err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
		return up
	}, time.Minute, rotationTick)
	return address, up
}

// commands are those of a page's blocks that a shell runs. The first is the settings.
func commands(t *testing.T, page string) (settings string, rest []string) {
	t.Helper()
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	var blocks []string
	for i, part := range strings.Split(string(data), "\n\x60\x60\x60") {
		if block, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			blocks = append(blocks, block)
		}
	}
	require.Greater(t, len(blocks), 3)
	return blocks[0], blocks[1:]
}

// TestInstallationByThePage runs the commands of docs/install/vault.md, the smoke test at
// its end included, in a directory with nothing but a release's archive and its sums.
func TestInstallationByThePage(t *testing.T) {
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	bin := shared(t).VaultBin()
	dir, path, plugins := t.TempDir(), t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(bin, filepath.Join(path, "vault")))
	version := archived(t, root, dir)
	page := filepath.Join(root, "docs", "install", "vault.md")
	settings, rest := commands(t, page)
	require.Contains(t, settings, "VERSION="+version+"\n", "the page names the version")

	const token = "root-of-an-empty-server"
	env := []string{
		"PATH=" + path + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "VERSION=" + version,
		fmt.Sprintf("PLATFORM=%s_%s", runtime.GOOS, runtime.GOARCH), "PLUGINS=" + plugins,
		"VAULT_ADDR=" + emptyServer(t, bin, plugins, token), "VAULT_TOKEN=" + token,
		"JWT_PUBKEY_FILE=" + filepath.Join(shared(t).DataDir(), "jwt-public.pem"),
	}
	for range 2 { // an upgrade is the same page
		cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", strings.Join(rest, "\n"))
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "vault-plugin-dek_"+version+"_"+runtime.GOOS+"_"+runtime.GOARCH+".tar.gz: OK")
		require.Contains(t, string(out), " is ready; ")
	}
}
