// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// namespaced is a server in front of a Vault without namespaces, which it plays: it has the
// catalog of plugins in the root namespace alone, and everything else in the namespace team.
// What is asked elsewhere it refuses and notes.
type namespaced struct {
	*httptest.Server
	mu      sync.Mutex
	catalog int      // requests for the catalog in the root namespace
	astray  []string // those that came to the wrong one
}

func playNamespaces(t *testing.T, vault string) *namespaced {
	t.Helper()
	target, err := url.Parse(vault)
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(target)
	n := &namespaced{}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		namespace := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/")
		r.Header.Del("X-Vault-Namespace")
		inCatalog := strings.HasPrefix(r.URL.Path, "/v1/sys/plugins/catalog")
		n.mu.Lock()
		defer n.mu.Unlock()
		switch {
		case r.URL.Path == "/v1/sys/seal-status" || r.URL.Path == "/v1/sys/leader" || r.URL.Path == "/v1/sys/health":
		case inCatalog && namespace == "":
			n.catalog++
		case inCatalog, namespace != "team":
			n.astray = append(n.astray, r.Method+" "+r.URL.Path+" in "+namespace)
			http.Error(w, `{"errors":["unsupported path"]}`, http.StatusNotFound)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(n.Close)
	return n
}

// TestBootstrapInANamespace sets a mount of a namespace up, moves it to another plugin, and
// has one refused that cannot be started, on a server that has its plugins in the root.
func TestBootstrapInANamespace(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "plugin")
	anotherPlugin(t, bin)
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-", PluginBin: bin})
	n := playNamespaces(t, s.VaultAddr())
	run := func(env ...string) (string, int) {
		return runScript(t, s, append([]string{"VAULT_ADDR=" + n.URL, "VAULT_NAMESPACE=team"}, env...)...)
	}
	own := []string{
		"DEK_MOUNT=team-dek", "JWT_MOUNT=team-jwt", "NAME_PREFIX=team-",
		"JWT_PUBKEY_FILE=" + filepath.Join(s.DataDir(), "jwt-public.pem"),
	}
	out, code := run(own...)
	require.Equal(t, 0, code, out)
	assert.Contains(t, out, "mounted team-dek/")

	anotherPlugin(t, bin)
	require.NoError(t, s.InstallPlugin())
	out, code = run(own...)
	require.Equal(t, 0, code, out)
	assert.Contains(t, out, "registered vault-plugin-dek")
	assert.Contains(t, out, "reloaded team-dek/")

	out, code = run(append(own, "PLUGIN_FILE=/nowhere/vault-plugin-dek_gone", "PLUGIN_SHA256="+strings.Repeat("0", 64))...)
	assert.Equal(t, 1, code, out)
	plugins := succeeded(t, callRoot(t, s, "LIST", "sys/plugins/catalog/secret", nil))["keys"]
	assert.NotContains(t, plugins, "vault-plugin-dek-probe", out)

	assert.Empty(t, n.astray)
	assert.Positive(t, n.catalog)
	out, code = run(append(own, "PLUGIN_NAMESPACE=team")...)
	assert.Equal(t, 1, code, out)
	assert.NotEmpty(t, n.astray, "it asks where it is told to")
}
