// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// vaultOf is a Vault of which only the health can be asked, with a version of its own.
func vaultOf(t *testing.T, version string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"initialized": true, "version": %q}`, version)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// writeFile puts a file into place at once, as an operator should.
func writeFile(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

// body is the body of an answer, or empty while there is none.
func bodyOf(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	resp, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var b strings.Builder
	_, err = fmt.Fprint(&b, resp.Status)
	require.NoError(t, err)
	raw := make([]byte, 4096)
	n, _ := resp.Body.Read(raw)
	return b.String() + string(raw[:n])
}

// logOf lets a test wait for a line of the command's log.
func logOf(t *testing.T, cmd *exec.Cmd) func(line string) {
	t.Helper()
	return func(line string) {
		t.Helper()
		require.Eventually(t, func() bool {
			raw, err := os.ReadFile(cmd.Stderr.(*os.File).Name())
			return err == nil && strings.Contains(string(raw), line)
		}, processLimit, 5*time.Millisecond, line)
	}
}

func TestHangupReloadsTheConfiguration(t *testing.T) {
	one, two := vaultOf(t, "1.0.1"), vaultOf(t, "1.0.2")
	file := filepath.Join(t.TempDir(), "dek-proxy.hcl")
	writeFile(t, file, `realm "default" { address = "`+one+`" }`)
	cmd, address := startCommand(t, nil, "-config", file)
	logged := logOf(t, cmd)
	health := func() string { return bodyOf(t, http.DefaultClient, "http://"+address+"/api/v1/admin/health") }
	require.Contains(t, health(), "1.0.1")

	writeFile(t, file, `realm "default" { address = "`+two+`" }`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	logged("reloaded")
	require.Contains(t, health(), "1.0.2")

	writeFile(t, file, `realm "default" { url = "`+one+`" }`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	logged(`realm \"default\": url: no such field`)
	require.Contains(t, health(), "1.0.2", "a faulty file changes nothing")
}

// TestHangupDoesNotKill: a request in flight ends as if nothing had happened, and the
// listen file stays.
func TestHangupDoesNotKill(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "rotationSettings") {
			entered <- struct{}{}
			<-release
		}
		_, _ = fmt.Fprint(w, `{"data": {"org_id": "slow", "rotation_interval": "90_DAYS", "valid_rotation_intervals": ["90_DAYS"]}}`)
	}))
	t.Cleanup(vault.Close)
	cmd, address := startCommand(t, []string{"VAULT_ADDR=" + vault.URL})
	answer := make(chan string, 1)
	go func() {
		req, err := http.NewRequest(http.MethodGet, "http://"+address+"/public/core/v3/key/rotationSettings", http.NoBody)
		if err != nil {
			answer <- err.Error()
			return
		}
		req.Header.Set("INFA-SESSION-ID", "hvs.x")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		_ = resp.Body.Close()
		answer <- resp.Status
	}()
	<-entered
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	logOf(t, cmd)("reloaded")
	close(release)
	require.Equal(t, "200 OK", <-answer)
	require.FileExists(t, listenFile(cmd))
}

func TestFaultyConfigAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.hcl")
	writeFile(t, file, `realm "default" { rolle = "x" }`)
	cmd := exec.Command(os.Args[0], "-config", file, "-listen", "127.0.0.1:0")
	cmd.Env = []string{asCommand + "=yes"}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 2, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), `realm "default": rolle: no such field`)
}

func TestVersionOfTheCommand(t *testing.T) {
	for _, flag := range []string{"-version", "--version"} {
		cmd := exec.Command(os.Args[0], flag)
		cmd.Env = []string{asCommand + "=yes", "DEK_PROXY_LISTEN=nonsense"}
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Regexp(t, `^dek-proxy v\d+\.\d+\.\d+\S* \(commit \S+, go1\.\S+\)\n$`, string(out))
	}
}

// serial is what a server shows at a handshake, and whether it takes the client.
func serial(t *testing.T, address string, conf *tls.Config) (string, error) {
	t.Helper()
	conf.MinVersion = tls.VersionTLS12
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, conf)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	// In TLS 1.3 a refusal of the client's certificate comes after the handshake.
	_, err = fmt.Fprint(conn, "GET /health HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	if _, err = conn.Read(make([]byte, 1)); err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func TestCertificatesReloadWhenTheyChange(t *testing.T) {
	cert, key, pool := certificate(t)
	cmd, address := startCommand(t, []string{"VAULT_ADDR=http://127.0.0.1:1"}, "-tls-cert", cert, "-tls-key", key)
	first, err := serial(t, address, &tls.Config{RootCAs: pool})
	require.NoError(t, err)

	writeFile(t, cert, "nonsense")
	require.Eventually(t, func() bool {
		got, err := serial(t, address, &tls.Config{RootCAs: pool})
		require.NoError(t, err)
		require.Equal(t, first, got, "what cannot be read changes nothing")
		raw, err := os.ReadFile(cmd.Stderr.(*os.File).Name())
		return err == nil && strings.Contains(string(raw), "the changed certificates are not used")
	}, time.Minute, 50*time.Millisecond)

	newCert, newKey, newPool := certificate(t)
	for from, to := range map[string]string{newKey: key, newCert: cert} {
		raw, err := os.ReadFile(from)
		require.NoError(t, err)
		writeFile(t, to, string(raw))
	}
	require.Eventually(t, func() bool {
		got, err := serial(t, address, &tls.Config{RootCAs: newPool})
		return err == nil && got != first
	}, time.Minute, 50*time.Millisecond)
}

func TestClientCertificates(t *testing.T) {
	cert, key, pool := certificate(t)
	clientCert, clientKey, _ := certificate(t)
	_, address := startCommand(t, []string{"VAULT_ADDR=http://127.0.0.1:1"}, "-tls-cert", cert, "-tls-key", key, "-tls-client-ca", clientCert)
	_, err := serial(t, address, &tls.Config{RootCAs: pool})
	require.Error(t, err)
	stranger, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	_, err = serial(t, address, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{stranger}})
	require.Error(t, err)
	known, err := tls.LoadX509KeyPair(clientCert, clientKey)
	require.NoError(t, err)
	_, err = serial(t, address, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{known}})
	require.NoError(t, err)
}

func TestAdminListener(t *testing.T) {
	cmd, address := startCommand(t, []string{"VAULT_ADDR=" + vaultOf(t, "1.0.1")}, "-admin-listen", "127.0.0.1:0")
	admin := adminAddress(t, cmd)
	for _, path := range []string{"/metrics", "/api/v1/admin/health"} {
		require.Equal(t, 404, get(t, http.DefaultClient, "http://"+address+path))
		require.Equal(t, 200, get(t, http.DefaultClient, "http://"+admin+path))
	}
	require.Equal(t, 404, get(t, http.DefaultClient, "http://"+admin+"/openapi.json"))
}

// adminListens is the line of the log that says where the command listens for operators.
var adminListens = regexp.MustCompile(`"address":"([^"]+)","for":"admin"`)

func adminAddress(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	logOf(t, cmd)(`"for":"admin"`)
	raw, err := os.ReadFile(cmd.Stderr.(*os.File).Name())
	require.NoError(t, err)
	said := adminListens.FindSubmatch(raw)
	require.NotNil(t, said, "%s", raw)
	return string(said[1])
}
