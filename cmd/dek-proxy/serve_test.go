// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// start runs the command and returns the address it listens on.
func start(ctx context.Context, t *testing.T, args ...string) (address string, done chan error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "address")
	done = make(chan error, 1)
	go func() {
		done <- run(ctx, append(args, "-listen", "127.0.0.1:0", "-listen-file", file), environment(nil), io.Discard)
	}()
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(file)
		address = strings.TrimSpace(string(raw))
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	t.Cleanup(func() { require.NoFileExists(t, file) })
	return address, done
}

func get(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func TestServesUntilStopped(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	ctx, stop := context.WithCancel(t.Context())
	address, done := start(ctx, t)
	require.Equal(t, 503, get(t, http.DefaultClient, "http://"+address+"/health"))
	require.Equal(t, 404, get(t, http.DefaultClient, "http://"+address+"/nowhere"))
	stop()
	require.NoError(t, <-done)
	_, err := net.DialTimeout("tcp", address, time.Second)
	require.Error(t, err)
}

func TestServesTLS(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	cert, key, pool := certificate(t)
	ctx, stop := context.WithCancel(t.Context())
	address, done := start(ctx, t, "-tls-cert", cert, "-tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	require.Equal(t, 503, get(t, client, "https://"+address+"/health"))
	client.CloseIdleConnections()
	stop()
	require.NoError(t, <-done)
}

// certificate writes a self-signed one for 127.0.0.1.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		Subject: pkix.Name{CommonName: strconv.FormatInt(time.Now().UnixNano(), 10)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

func TestRequestsInFlightFinish(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		w.WriteHeader(http.StatusTeapot)
	})
	opts, err := parseOptions([]string{"-listen", "127.0.0.1:0", "-listen-file", filepath.Join(t.TempDir(), "a")}, environment(nil), io.Discard)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, opts, []endpoint{{address: opts.listen, listenFile: opts.listenFile, handler: handler}}, hclog.NewNullLogger())
	}()
	var address string
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(opts.listenFile)
		address = strings.TrimSpace(string(raw))
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	code := make(chan int, 1)
	go func() { code <- get(t, http.DefaultClient, "http://"+address+"/") }()
	<-entered
	stop()
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, time.Minute, 5*time.Millisecond, "no new connections")
	close(release)
	require.Equal(t, http.StatusTeapot, <-code)
	require.NoError(t, <-done)
}

func TestStartFailures(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	for _, args := range [][]string{
		{"-listen", busy.Addr().String()},
		{"-listen", "127.0.0.1:0", "-listen-file", filepath.Join(t.TempDir(), "no", "such", "dir")},
		{"-listen", "127.0.0.1:0", "-tls-cert", "none", "-tls-key", "none"},
		{"-listen", "127.0.0.1:0", "-mount", "a b"},
		{"-listen", "127.0.0.1:0", "-realm", "a=../sys:c"},
	} {
		require.Error(t, run(t.Context(), args, environment(nil), io.Discard), args)
	}
	t.Setenv("VAULT_CACERT", "none")
	require.ErrorContains(t, run(t.Context(), nil, environment(nil), io.Discard), "vault client configuration")
}

func TestServerHasLimits(t *testing.T) {
	s := newServer(&options{vaultTimeout: 10 * time.Second}, http.NotFoundHandler(), hclog.NewNullLogger())
	require.Positive(t, s.ReadHeaderTimeout)
	require.Positive(t, s.ReadTimeout)
	require.Greater(t, s.WriteTimeout, 30*time.Second)
	require.Positive(t, s.IdleTimeout)
	require.Equal(t, 64<<10, s.MaxHeaderBytes)
}

// TestAnswersOfTheServerItself are those that net/http gives before a handler is asked.
// docs/proxy.md lists them as the ones without X-Request-Id.
func TestAnswersOfTheServerItself(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	ctx, stop := context.WithCancel(t.Context())
	address, done := start(ctx, t)
	const host = "Host: x\r\n"
	for _, c := range []struct {
		name, request string
		status        int
		own           bool
	}{
		{"faulty escape", "GET /%zz HTTP/1.1\r\n" + host, 400, true},
		{"no host", "GET / HTTP/1.1\r\n", 400, true},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + host, 400, true},
		{"malformed host", "GET / HTTP/1.1\r\nHost: a b\r\n", 400, true},
		{"expectation", "GET / HTTP/1.1\r\n" + host + "Expect: foo\r\n", 417, true},
		{"large headers", "GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 80<<10) + "\r\n", 431, true},
		{"transfer encoding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n", 501, true},
		{"version", "GET / HTTP/3.0\r\n" + host, 505, true},
		{"no route", "GET / HTTP/1.1\r\n" + host, 404, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			_, err = io.WriteString(conn, c.request+"\r\n")
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, c.status, resp.StatusCode)
			require.Equal(t, c.own, resp.Header.Get("X-Request-Id") == "")
			require.Equal(t, c.own, resp.Header.Get("Content-Type") != "application/json")
		})
	}
	stop()
	require.NoError(t, <-done)
}
