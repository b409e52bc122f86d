// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package monitoringtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a Prometheus that scrapes a mount and a proxy every second.
type Server struct {
	t    *testing.T
	url  string
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan struct{}
}

var (
	vaultTarget = "vault.example:8200"
	proxyTarget = "dek-proxy.example:8443"
	tokenFile   = "/run/secrets/vault-token" // #nosec G101 -- the example's path
	ruleWaits   = regexp.MustCompile(`(?m)^ +for: .*\n`)
)

// What a rule looks back over hours for, that nothing has happened, is looked for over
// seconds.
const ruleLooksBack, testLooksBack = "[2h]", "[5s]"

// Start starts a Prometheus with docs/monitoring's own configuration, in which the targets,
// the token and the intervals are replaced. Its rules do not wait: an alert fires as soon as
// its expression holds. vault and proxy are addresses of plain HTTP.
func Start(t *testing.T, vault, proxy, token string) *Server {
	t.Helper()
	bin, dir := Tool(t, "prometheus"), t.TempDir()
	config := strings.NewReplacer(vaultTarget, vault, proxyTarget, proxy, tokenFile, filepath.Join(dir, "token"), "scheme: https", "scheme: http",
		"scrape_interval: 30s", "scrape_interval: 1s", "evaluation_interval: 30s", "evaluation_interval: 500ms").
		Replace(string(Read(t, "prometheus.yml")))
	rules := ruleWaits.ReplaceAll(Read(t, "alerts.yml"), nil)
	for name, content := range map[string][]byte{
		"prometheus.yml": []byte(config),
		"alerts.yml":     bytes.ReplaceAll(rules, []byte(ruleLooksBack), []byte(testLooksBack)),
		"token":          []byte(token),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 { // another process may take the port first
		if s := launch(t, bin, dir); s.ready() {
			return s
		}
	}
	t.Fatal("prometheus does not start")
	return nil
}

func launch(t *testing.T, bin, dir string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	s := &Server{t: t, url: "http://" + address, done: make(chan struct{})}
	s.cmd = exec.Command(bin, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn") // #nosec G204 -- no shell
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.done
		if t.Failed() {
			t.Logf("prometheus: %s", s.log.String())
		}
	})
	return s
}

// ready waits until the server answers, and is false if it has ended instead.
func (s *Server) ready() bool {
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		if resp, err := http.Get(s.url + "/-/ready"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-s.done:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return false
}

// Sample is a series and its value.
type Sample struct {
	Metric map[string]string
	Value  string
}

// Query evaluates an expression now.
func (s *Server) Query(ctx context.Context, expr string) ([]Sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/query?query="+url.QueryEscape(expr), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	samples := make([]Sample, 0, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		samples = append(samples, Sample{r.Metric, fmt.Sprint(r.Value[1])})
	}
	return samples, nil
}

// Firing are the names of the alerts that fire now.
func (s *Server) Firing(ctx context.Context) (map[string]bool, error) {
	samples, err := s.Query(ctx, `ALERTS{alertstate="firing"}`)
	firing := map[string]bool{}
	for _, sample := range samples {
		firing[sample.Metric["alertname"]] = true
	}
	return firing, err
}
