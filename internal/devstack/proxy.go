// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// ProxyURL is the base URL of the proxy, the {{base_url}} of the documents.
func (s *Stack) ProxyURL() string { return "http://" + s.proxyAddr() }

// proxyAddr is the host and port the proxy listens on.
func (s *Stack) proxyAddr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.opts.ProxyPort))
}

// StopProxy asks the proxy to end and waits until it has.
func (s *Stack) StopProxy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy.terminate()
}

// StartProxy starts the proxy at its address again.
func (s *Stack) StartProxy(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proxy.running() {
		return errors.New("start the proxy: it is running")
	}
	return s.startProxy(ctx)
}

// startProxy starts the proxy and waits until it answers. It finds a free port
// itself and writes down which, the first time; later it has to be the same.
func (s *Stack) startProxy(ctx context.Context) error {
	listenFile := s.path("proxy.addr")
	if err := os.Remove(listenFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cmd := exec.Command(s.opts.ProxyBin, // #nosec G204 -- a binary the caller names
		"-listen", s.proxyAddr(), "-listen-file", listenFile,
		"-mount", Mount, "-realm", Realm+"="+JWTMount+":"+JWTRole, "-log-level", s.opts.LogLevel)
	cmd.Env = s.childEnv("VAULT_ADDR=" + s.VaultAddr())
	cmd.Dir = s.opts.DataDir
	proxy, err := s.startProcess("proxy", cmd)
	if err != nil {
		return err
	}
	s.proxy = proxy
	err = poll(readyTimeout, ctx.Done(), func() (bool, error) {
		if !proxy.running() {
			return false, errors.New("it did not stay up")
		}
		return s.proxyAnswers(ctx, listenFile)
	})
	if err != nil {
		return proxy.failure(fmt.Errorf("wait for the proxy: %w", err))
	}
	return nil
}

// proxyAnswers reads the address once it is there and asks for the health.
func (s *Stack) proxyAnswers(ctx context.Context, listenFile string) (bool, error) {
	data, err := os.ReadFile(listenFile) // #nosec G304 -- in the data directory
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, port, err := net.SplitHostPort(strings.TrimSpace(string(data)))
	if err != nil {
		return false, fmt.Errorf("%s: %w", listenFile, err)
	}
	if s.opts.ProxyPort == 0 {
		if s.opts.ProxyPort, err = strconv.Atoi(port); err != nil {
			return false, fmt.Errorf("%s: %w", listenFile, err)
		}
	}
	// An error is a proxy that is not up yet, which is what is waited for.
	code, err := getStatus(ctx, s.ProxyURL()+"/health")
	return err == nil && code == http.StatusOK, nil
}

// getStatus is the status code that a GET of url is answered with.
func getStatus(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
