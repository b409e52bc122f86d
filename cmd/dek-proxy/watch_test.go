// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy"
)

// tlsVault is a Vault over TLS of which only the health can be asked. Show changes its
// certificate.
type tlsVault struct {
	*httptest.Server
	pair atomic.Pointer[tls.Certificate]
}

func newTLSVault(t *testing.T) *tlsVault {
	t.Helper()
	v := &tlsVault{}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"initialized": true, "version": "1.0.1"}`)
	}))
	v.Config.ErrorLog = log.New(io.Discard, "", 0)
	v.Config.SetKeepAlivesEnabled(false) // each call is a handshake
	v.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*v.pair.Load()}}, nil
	}}
	t.Cleanup(v.Close)
	return v
}

// show lets the Vault show a new certificate, and returns it in PEM.
func (v *tlsVault) show(t *testing.T) string {
	t.Helper()
	cert, key, _ := certificate(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	v.pair.Store(&pair)
	raw, err := os.ReadFile(cert)
	require.NoError(t, err)
	return string(raw)
}

// TestCertificatesForVaultReload: a Vault that shows another certificate is trusted as
// soon as the file with the CA has it, whether a variable names the file or its directory.
func TestCertificatesForVaultReload(t *testing.T) {
	for _, name := range []string{api.EnvVaultCACert, api.EnvVaultCAPath} {
		t.Run(name, func(t *testing.T) {
			v := newTLSVault(t)
			dir := t.TempDir()
			file := filepath.Join(dir, "below", "ca.pem")
			require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
			writeFile(t, file, v.show(t))
			v.StartTLS()
			named := file
			if name == api.EnvVaultCAPath {
				named = dir
			}
			t.Setenv(api.EnvVaultAddress, v.URL)
			t.Setenv(name, named)
			r, logged := newReloader(t)

			r.watch()
			require.Empty(t, logged.String(), "nothing has changed")
			require.True(t, r.reaches(t))

			other := v.show(t)
			require.False(t, r.reaches(t))
			writeFile(t, file, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
			r.watch()
			require.Contains(t, logged.String(), "the changed certificates for vault are not used")
			said := logged.Len()
			r.watch()
			require.Equal(t, said, logged.Len(), "a fault is told once")

			writeFile(t, file, other)
			r.watch()
			require.Contains(t, logged.String(), "certificates for vault were read again")
			require.True(t, r.reaches(t))
		})
	}
}

// newReloader is what the command makes of the environment.
func newReloader(t *testing.T) (*reloader, *strings.Builder) {
	t.Helper()
	opts, err := parseOptions(nil, environment(nil), io.Discard)
	require.NoError(t, err)
	configs, err := opts.realmConfigs()
	require.NoError(t, err)
	realms, err := opts.connect(configs)
	require.NoError(t, err)
	p, err := proxy.New(proxy.Config{Realms: realms})
	require.NoError(t, err)
	logged := &strings.Builder{}
	return &reloader{
		opts: opts, env: os.LookupEnv, proxy: p, log: hclog.New(&hclog.LoggerOptions{Output: logged}),
		configs: configs, realms: realms, stamp: stampOf(files(configs, os.LookupEnv)...),
	}, logged
}

// reaches reports whether the client in force trusts the Vault.
func (r *reloader) reaches(t *testing.T) bool {
	t.Helper()
	_, err := r.realms[proxy.DefaultRealm].Vault.Health(t.Context())
	return err == nil
}

// TestCommandWatchesCertificatesForVault: the command looks at the files without a signal.
func TestCommandWatchesCertificatesForVault(t *testing.T) {
	v := newTLSVault(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, v.show(t))
	v.StartTLS()
	cmd, address := startCommand(t, []string{"VAULT_ADDR=" + v.URL, "VAULT_CACERT=" + file})
	writeFile(t, file, v.show(t))
	logOf(t, cmd)("certificates for vault were read again")
	require.Eventually(t, func() bool {
		return strings.Contains(bodyOf(t, http.DefaultClient, "http://"+address+"/api/v1/admin/health"), "1.0.1")
	}, time.Minute, 50*time.Millisecond)
}
