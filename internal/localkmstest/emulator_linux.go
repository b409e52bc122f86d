// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package localkmstest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/syncbuf"
)

// Region is the one that the emulator's keys are in.
const Region = "eu-central-1"

const account = "111122223333"

// Emulator is a local-kms with keys of its own. Its methods fail the test.
type Emulator struct {
	t       testing.TB
	program string
	dir     string
	server  *httptest.Server
	log     *syncbuf.Buffer

	child *exec.Cmd
	stdin io.Closer // as long as it is open the child lives

	mu    sync.Mutex
	calls []Call
}

// Call is one that was made of the emulator, and what it answered.
type Call struct {
	Action  string
	Status  int
	In, Out map[string]any
}

// program is local-kms as scripts/localkms.sh finds it: LOCAL_KMS_BIN, or bin/local-kms.
func program(t testing.TB) string {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	named := os.Getenv("LOCAL_KMS_BIN")
	switch {
	case named == "":
		return filepath.Join(root, "bin", "local-kms")
	case strings.Contains(named, "/") && !filepath.IsAbs(named):
		return filepath.Join(root, named)
	}
	found, err := exec.LookPath(named)
	require.NoError(t, err, "LOCAL_KMS_BIN")
	return found
}

// New starts an emulator, which goes with the test. It has one key, whose material it rotates
// once that time has come. Where the emulator or the namespaces cannot be had, the test is
// skipped, and fails under CI=true.
func New(t testing.TB, rotates time.Time) (e *Emulator, rotatingKey string) {
	t.Helper()
	program := program(t)
	if _, err := os.Stat(program); err != nil {
		without(t, "there is no local-kms: scripts/localkms.sh builds it")
	}
	dir, err := os.MkdirTemp("", "local-kms-") // not below t.TempDir: a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	e = &Emulator{t: t, program: program, dir: dir, log: new(syncbuf.Buffer)}
	const id = "5f0d3a1c-8b2e-4c67-9d41-0a7be61c2f93"
	seed := fmt.Sprintf("Keys:\n  Symmetric:\n    Aes:\n      - Metadata:\n          KeyId: %s\n        NextKeyRotation: %s\n        BackingKeys:\n          - %x\n",
		id, rotates.UTC().Format(time.RFC3339), bytes.Repeat([]byte{7}, 32))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "seed.yaml"), []byte(seed), 0o600))
	e.server = httptest.NewServer(e.gate())
	t.Cleanup(e.server.Close)
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Log(e.log.String())
		}
	})
	e.Start()
	return e, ARN(id)
}

// ARN is that of the emulator's key with an ID.
func ARN(id string) string { return "arn:aws:kms:" + Region + ":" + account + ":key/" + id }

// without ends a test that cannot run.
func without(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason + "; this test did not run")
}

// Endpoint is the address of AWS KMS for the test.
func (e *Emulator) Endpoint() string { return e.server.URL }

// Start starts the emulator, with the keys that it had.
func (e *Emulator) Start() {
	e.t.Helper()
	stdin, hold, err := os.Pipe()
	require.NoError(e.t, err)
	defer func() { _ = stdin.Close() }()
	cmd, err := startInside(e.program, e.socket(), stdin, e.log, []string{
		"KMS_ACCOUNT_ID=" + account, "KMS_REGION=" + Region,
		"KMS_DATA_PATH=" + filepath.Join(e.dir, "data"), "KMS_SEED_PATH=" + filepath.Join(e.dir, "seed.yaml"),
	})
	if err != nil {
		_ = hold.Close()
		without(e.t, "there are no network namespaces here: "+err.Error())
	}
	e.child, e.stdin = cmd, hold
	require.Eventually(e.t, func() bool {
		status, _, err := e.call("ListKeys", nil)
		return err == nil && status == http.StatusOK
	}, time.Minute, 10*time.Millisecond, "the emulator does not answer")
}

// Stop ends the emulator: connections to the endpoint are cut from then on.
func (e *Emulator) Stop() {
	if e.child == nil {
		return
	}
	_ = e.child.Process.Kill()
	_ = e.child.Wait()
	_ = e.stdin.Close()
	e.child = nil
}

func (e *Emulator) socket() string { return filepath.Join(e.dir, "in.sock") }

// Call has the emulator do something, and returns what it answered.
func (e *Emulator) Call(action string, in map[string]any) Call {
	e.t.Helper()
	status, out, err := e.call(action, in)
	require.NoError(e.t, err)
	return Call{action, status, in, out}
}

// Must is Call for what succeeds.
func (e *Emulator) Must(action string, in map[string]any) map[string]any {
	e.t.Helper()
	done := e.Call(action, in)
	require.Equal(e.t, http.StatusOK, done.Status, "%s: %v", action, done.Out)
	return done.Out
}

// CreateKey makes a key as its owner asks for it, and returns its ARN.
func (e *Emulator) CreateKey(in map[string]any) string {
	e.t.Helper()
	metadata, _ := e.Must("CreateKey", in)["KeyMetadata"].(map[string]any)
	arn, _ := metadata["Arn"].(string)
	require.NotEmpty(e.t, arn)
	return arn
}

// Calls returns the calls of the provider's, in order: those of one action with one key.
func (e *Emulator) Calls(action, key string) []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.calls), func(c Call) bool { return c.Action != action || c.In["KeyId"] != key })
}

// call makes a call past the gate, so that it is not among [Emulator.Calls].
func (e *Emulator) call(action string, in map[string]any) (status int, out map[string]any, err error) {
	body, err := json.Marshal(in)
	if in == nil {
		body = []byte("{}")
	}
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, "http://local-kms/", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", service+action)
	resp, err := e.inside().RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	_ = json.Unmarshal(answer, &out) // some answers are empty
	return resp.StatusCode, out, nil
}

const service = "TrentService."

// inside leads into the emulator's network. No connection is kept: one to an emulator that has
// ended would be found out by the next call.
func (e *Emulator) inside() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.socket())
		},
	}
}

// gate passes requests on, and keeps what they were and what was answered.
func (e *Emulator) gate() http.Handler {
	return &httputil.ReverseProxy{
		Transport: recorder{e, e.inside()},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "local-kms"})
			r.Out.Header.Del("Accept-Encoding")
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
}

type recorder struct {
	e *Emulator
	http.RoundTripper
}

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := r.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	call := Call{Action: strings.TrimPrefix(req.Header.Get("X-Amz-Target"), service), Status: resp.StatusCode}
	_ = json.Unmarshal(body, &call.In)
	_ = json.Unmarshal(answer, &call.Out)
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	r.e.calls = append(r.e.calls, call)
	return resp, nil
}
