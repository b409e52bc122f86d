// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// sourceVault is a second Vault, with a certificate of an authority of its own before it.
type sourceVault struct {
	*devstack.Stack
	address, authority string

	mu         sync.Mutex
	namespaces map[string]bool // that were asked for; Vault's free edition has none
}

func startSource(t *testing.T) *sourceVault {
	t.Helper()
	v := &sourceVault{Stack: start(t, devstack.Options{NoProxy: true}), namespaces: map[string]bool{}}
	behind, err := url.Parse(v.VaultAddr())
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		v.mu.Lock()
		defer v.mu.Unlock()
		v.namespaces[r.In.Header.Get("X-Vault-Namespace")] = true
		r.Out.Header.Del("X-Vault-Namespace")
	}}
	server := httptest.NewUnstartedServer(proxy)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each client that does not trust it
	server.StartTLS()
	t.Cleanup(server.Close)
	v.address, v.authority = server.URL, filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(v.authority, text, 0o600))
	return v
}

// token may read a mount, and nothing else.
func (v *sourceVault) token(t *testing.T, mount string) string {
	t.Helper()
	write(t, v.Stack, "sys/policies/acl/"+mount, map[string]any{"policy": `path "` + mount + `/*" { capabilities = ["read", "list"] }`})
	made, err := v.Client().Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{mount}, NoParent: true})
	require.NoError(t, err)
	return made.Auth.ClientToken
}

// env is how the command finds the source.
func (v *sourceVault) env(token string) []string {
	return []string{"SOURCE_VAULT_ADDR=" + v.address, "SOURCE_VAULT_CACERT=" + v.authority, "SOURCE_VAULT_TOKEN=" + token}
}

// secrets are a mount's secrets as its own server tells them, with all that belongs to them.
func (v *sourceVault) secrets(t *testing.T, mount, version string, names []string) string {
	t.Helper()
	var all []any
	for _, name := range names {
		if version == "1" {
			all = append(all, succeeded(t, callRoot(t, v.Stack, http.MethodGet, mount+"/"+name, nil)))
			continue
		}
		all = append(all, succeeded(t, callRoot(t, v.Stack, http.MethodGet, mount+"/data/"+name, nil)),
			succeeded(t, callRoot(t, v.Stack, http.MethodGet, mount+"/metadata/"+name, nil)))
	}
	text, err := json.Marshal(all)
	require.NoError(t, err)
	return string(text)
}

// Secrets come from another Vault, which has its own address, authority, token and
// namespace. It may be sealed in the middle, and the command killed; the source stays as it
// is. What is wrong with its settings is said at once.
func TestDekImportKVFromAnotherVault(t *testing.T) {
	s, source, dek := shared(t), startSource(t), buildDek(t)
	t.Run("version 1", func(t *testing.T) { testImportKilled(t, s, source, dek, "1") })
	t.Run("version 2", func(t *testing.T) { testImportKilled(t, s, source, dek, "2") })
	t.Run("sealed in the middle", func(t *testing.T) { testSourceSealed(t, s, source, dek) })
	t.Run("refused", func(t *testing.T) { testSourceRefused(t, s, source, dek) })
}

const sourceValue = "source-value-77ab"

// fillSource writes so many secrets, and returns their names.
func fillSource(put func(name string, data, custom map[string]any), n int) (names []string) {
	for i := range n {
		name := fmt.Sprintf("f%d/%03d", i%7, i)
		put(name, map[string]any{"n": i, "password": fmt.Sprint(sourceValue, i)}, map[string]any{"owner": fmt.Sprint("team ", i)})
		names = append(names, name)
	}
	return names
}

// imported checks that a tenant has the secrets, each written once.
func imported(t *testing.T, tenant *client.Tenant, names []string, version string) {
	t.Helper()
	wanted := make([]client.ItemName, len(names))
	for i, name := range names {
		wanted[i] = client.ItemName{Kind: client.Secrets, Name: name}
	}
	items, err := tenant.ReadItems(t.Context(), wanted)
	require.NoError(t, err)
	for i, item := range items {
		assert.Equal(t, map[string]any{"n": json.Number(fmt.Sprint(i)), "password": fmt.Sprint(sourceValue, i)}, item.Data, item.Error)
		assert.Equal(t, 1, item.Revision)
		if version == "2" {
			assert.Equal(t, map[string]string{"owner": fmt.Sprint("team ", i)}, item.Metadata)
		}
	}
}

func testImportKilled(t *testing.T, s *devstack.Stack, source *sourceVault, dek dekProgram, version string) {
	tenant := asRoot(t, s, applicationTenant(t, s))
	mount, put := mountKV(t, source.Stack, version)
	names := fillSource(put, 120)
	before := source.secrets(t, mount, version, names)
	d := dekProgram{t, dek.path, append(source.env(source.token(t, mount)), "SOURCE_VAULT_NAMESPACE=theirs")}
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	args := []string{"import", "kv2", mount, tenant.ID(), "secrets", "--batch", "10", "--checkpoint", checkpoint, "-json"}
	// So slowly that most is still to come when a busy machine gets to see the checkpoint.
	killed := d.begin(s, append(args, "--rate", "20")...)
	require.Eventually(t, func() bool { return scannedOf(checkpoint) > 0 }, goneLimit, rotationTick)
	killed.signal(os.Kill)
	require.Less(t, scannedOf(checkpoint), len(names))

	code, out, errs := d.run(s, s.RootToken(), args...)
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, `"scanned":120`)
	assert.NotContains(t, killed.out.String()+killed.errs.String()+out+errs, sourceValue)
	imported(t, tenant, names, version)
	assert.Equal(t, before, source.secrets(t, mount, version, names), "the source stays as it is")
	source.mu.Lock()
	defer source.mu.Unlock()
	assert.Equal(t, map[string]bool{"theirs": true}, source.namespaces)
}

func scannedOf(checkpoint string) int {
	var c struct{ Progress struct{ Scanned int } }
	text, err := os.ReadFile(checkpoint)
	if err != nil || json.Unmarshal(text, &c) != nil {
		return 0
	}
	return c.Progress.Scanned
}

func testSourceSealed(t *testing.T, s *devstack.Stack, source *sourceVault, dek dekProgram) {
	tenant := asRoot(t, s, applicationTenant(t, s))
	mount, put := mountKV(t, source.Stack, "2")
	names := fillSource(put, 120)
	d := dekProgram{t, dek.path, source.env(source.token(t, mount))}
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	importing := d.begin(s, "import", "kv2", mount, tenant.ID(), "secrets", "--batch", "10", "--checkpoint", checkpoint, "--rate", "20")
	require.Eventually(t, func() bool { return scannedOf(checkpoint) > 0 }, goneLimit, rotationTick)
	require.NoError(t, source.Seal(t.Context()))
	importing.tells(importing.errs, "Vault is sealed; waiting")
	require.NoError(t, source.Unseal(t.Context()))
	<-importing.ended
	require.Equal(t, 0, importing.cmd.ProcessState.ExitCode(), importing.errs)
	assert.Contains(t, importing.out.String(), "120 imported")
	imported(t, tenant, names, "2")
}

// otherAuthority is an authority that no server has a certificate of.
func otherAuthority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "another authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return path
}

func testSourceRefused(t *testing.T, s *devstack.Stack, source *sourceVault, dek dekProgram) {
	tenant := asRoot(t, s, applicationTenant(t, s))
	mount, put := mountKV(t, source.Stack, "2")
	fillSource(put, 3)
	other, _ := mountKV(t, source.Stack, "2")
	good, without := source.token(t, mount), source.token(t, other)
	stranger := otherAuthority(t)
	for name, test := range map[string]struct {
		env  []string
		says string
	}{
		"another authority":       {append(source.env(good), "SOURCE_VAULT_CACERT="+stranger), "certificate"},
		"no authority":            {append(source.env(good), "SOURCE_VAULT_CACERT=", "VAULT_SKIP_VERIFY=true"), "certificate"},
		"another server's name":   {append(source.env(good), "SOURCE_VAULT_TLS_SERVER_NAME=vault.invalid"), "vault.invalid"},
		"no token":                {append(source.env(good), "SOURCE_VAULT_TOKEN="), "SOURCE_VAULT_ADDR needs SOURCE_VAULT_TOKEN"},
		"an unknown token":        {source.env("hvs.unknown"), mount + " at the source: 403: "},
		"a token without a right": {source.env(without), mount + " at the source: 403: "},
		"the target's token":      {source.env(s.RootToken()), mount + " at the source: 403: "},
		"no TLS":                  {append(source.env(good), "SOURCE_VAULT_ADDR="+strings.Replace(source.VaultAddr(), "http:", "https:", 1)), "HTTP response to HTTPS client"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := dekProgram{t, dek.path, append(test.env, "VAULT_MAX_RETRIES=0")}.run(s, s.RootToken(), "import", "kv2", mount, tenant.ID(), "secrets")
			assert.Contains(t, []int{1, 2}, code)
			assert.Contains(t, errs, test.says)
			for _, secret := range []string{"waiting", good, without, s.RootToken(), "hvs.unknown", sourceValue} {
				assert.NotContains(t, out+errs, secret)
			}
		})
	}
	names, err := tenant.Items(t.Context(), client.Secrets, client.Page{})
	require.NoError(t, err)
	assert.Empty(t, names)
}
