// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// vaultTimeout is what the proxy waits for a call to Vault in these tests, and
// answerWithin when it has to have answered then, on a busy machine too.
const (
	vaultTimeout = 2 * time.Second
	answerWithin = vaultTimeout + time.Second
)

// caller is what a client of the proxy does again and again: one request of
// each kind. Its tokens are cached by the proxy, or not, as they may be.
type caller struct {
	s        *devstack.Stack
	client   *http.Client
	requests []proxyRequest

	mu     sync.Mutex
	counts map[string]int // how often each status was seen
	faults []string
}

// proxyRequest is a request that is answered with 200 or want while all is well.
type proxyRequest struct {
	name, method, path, body string
	header                   map[string]string
	want                     int
}

// newCaller makes the requests: both families, with a JWT whose login is cached,
// one of its own for each request, and a Vault token as session.
func newCaller(t *testing.T, s *devstack.Stack) *caller {
	t.Helper()
	// How many rotations the requests start depends on how fast they are.
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"manual_rotations_per_hour": 0}))
	tenant := newTenant(t, s)
	jwt := mint(t, s, tenant, securityAdmin, keyAdmin)
	token := login(t, s, tenant, keyAdmin)
	userpass(t, s, "prober")
	api := map[string]string{"Authorization": "Bearer " + jwt, "X-TenantID": tenant, "Content-Type": "application/json"}
	status := rotatePath + "/rot-00000000-0000-4000-8000-000000000000"
	return &caller{
		s: s, client: &http.Client{Transport: &http.Transport{}}, counts: map[string]int{},
		requests: []proxyRequest{
			{"rotate", http.MethodPost, rotatePath, `{"tenantId": "` + tenant + `"}`, api, http.StatusConflict},
			{"status", http.MethodGet, status, "", api, http.StatusNotFound},
			{"settings", http.MethodGet, settingsPaths[0], "", map[string]string{"INFA-SESSION-ID": jwt}, http.StatusOK},
			{"settings by token", http.MethodGet, settingsPaths[1], "", map[string]string{"INFA-SESSION-ID": token}, http.StatusOK},
			{
				"change", http.MethodPatch, settingsPaths[0], `{"rotationInterval": "365_DAYS"}`,
				map[string]string{"INFA-SESSION-ID": jwt, "Content-Type": "application/json"},
				http.StatusOK,
			},
			{
				"malformed change", http.MethodPost, settingsPaths[1], `{"rotationInterval": 1}`,
				map[string]string{"INFA-SESSION-ID": token, "Content-Type": "application/json"},
				http.StatusBadRequest,
			},
			{
				"login", http.MethodPost, "/saas/public/core/v3/login", `{"username": "prober", "password": "right"}`,
				map[string]string{"Content-Type": "application/json"},
				http.StatusOK, // a refused one would soon be throttled
			},
		},
	}
}

// fresh is a login that nobody has made yet.
func (c *caller) fresh(t *testing.T) proxyRequest {
	t.Helper()
	return proxyRequest{
		"first request of a JWT", http.MethodGet, settingsPaths[0], "",
		map[string]string{"INFA-SESSION-ID": mint(t, c.s, "", keyAdmin)},
		http.StatusOK,
	}
}

// send makes a request, and notes a fault if the answer takes too long, or is
// neither what is wanted nor a 503 in the envelope of its family. It returns the
// status, 0 if there was no answer.
func (c *caller) send(ctx context.Context, r proxyRequest) int {
	req, err := http.NewRequestWithContext(ctx, r.method, c.s.ProxyURL()+r.path, strings.NewReader(r.body))
	if err != nil {
		c.fault("%s: %v", r.name, err)
		return 0
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	begun := time.Now()
	resp, err := c.client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			c.fault("%s: the proxy did not answer: %v", r.name, err)
		}
		return 0
	}
	raw, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	took := time.Since(begun)
	switch {
	case err != nil:
		c.fault("%s: %v", r.name, err)
	case took > answerWithin:
		c.fault("%s: answered %d after %s", r.name, resp.StatusCode, took)
	case resp.StatusCode == http.StatusServiceUnavailable:
		if wrong := wrongEnvelope(r.path, raw); wrong != "" {
			c.fault("%s: %s", r.name, wrong)
		}
	case resp.StatusCode != http.StatusOK && resp.StatusCode != r.want:
		c.fault("%s: answered %d: %s", r.name, resp.StatusCode, raw)
	}
	c.mu.Lock()
	c.counts[fmt.Sprint(r.name, " ", resp.StatusCode)]++
	c.mu.Unlock()
	return resp.StatusCode
}

func (c *caller) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// wrongEnvelope says what is wrong with the body of a 503.
func wrongEnvelope(path string, raw []byte) string {
	var body struct {
		Success   *bool  `json:"success"`
		Timestamp string `json:"timestamp"`
		Error     struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			RequestID string `json:"requestId"`
			Details   any    `json:"details"`
		} `json:"error"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return fmt.Sprintf("not JSON: %v", err)
	}
	right := body.Error.Code == "SERVICE_UNAVAILABLE" && body.Error.Message == "Service unavailable"
	if strings.HasPrefix(path, "/api/") {
		_, object := body.Error.Details.(map[string]any)
		right = right && object && body.Success != nil && !*body.Success && body.Timestamp != "" && body.Error.RequestID == ""
	} else {
		_, list := body.Error.Details.([]any)
		right = right && list && body.Success == nil && body.Timestamp == "" && body.Error.RequestID != ""
	}
	if !right {
		return fmt.Sprintf("not the envelope of %s: %s", path, raw)
	}
	return ""
}

// keepCalling has every request made all the time, until the test ends or the
// function returned is called, which reports the faults there were.
func (c *caller) keepCalling(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, r := range c.requests {
		all.Go(func() {
			for ctx.Err() == nil {
				c.send(ctx, r)
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return func() {
		cancel()
		all.Wait()
		c.client.CloseIdleConnections()
		c.report(t)
	}
}

func (c *caller) report(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("answers: %v", c.counts)
	assert.Empty(t, c.faults[:min(len(c.faults), 10)], "%d faults", len(c.faults))
	clear(c.counts)
	c.faults = nil
}

// all requires that every request is answered well, or with 503, in time. While Vault is
// unavailable one that wants the status also may have that.
func (c *caller) all(t *testing.T, unavailable bool, also int) {
	t.Helper()
	for _, r := range append([]proxyRequest{c.fresh(t)}, c.requests...) {
		status := c.send(t.Context(), r)
		if unavailable && r.want == also {
			assert.Contains(t, []int{http.StatusServiceUnavailable, also}, status, r.name)
		} else if unavailable {
			assert.Equal(t, http.StatusServiceUnavailable, status, r.name)
		} else {
			assert.Contains(t, []int{http.StatusOK, r.want}, status, r.name)
		}
	}
}

// health requires what the three health routes say. What they say may be a
// second old.
func health(t *testing.T, s *devstack.Stack, status int, vault map[string]any) {
	t.Helper()
	for _, path := range healthPaths {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			begun := time.Now()
			a := callProxy(t, s, http.MethodGet, path, nil)
			assert.Equal(c, status, a.Status, path)
			assert.Less(c, time.Since(begun), answerWithin, path)
			want := map[int]string{http.StatusOK: "healthy", http.StatusServiceUnavailable: "unhealthy"}[status]
			assert.Equal(c, want, a.Body["status"], path)
			if path == "/api/v1/admin/health" {
				state, _ := a.Body["vault"].(map[string]any)
				for field, value := range vault {
					assert.Equal(c, value, state[field], "%s of %s", field, path)
				}
			}
		}, 20*time.Second, 100*time.Millisecond)
	}
}
