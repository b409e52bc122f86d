// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// shelf keeps items as the engine does, and may be made to fail or to lose some.
type shelf struct {
	mu     sync.Mutex
	items  map[string]any
	fails  int                      // the next so many requests
	forget func(secret string) bool // acknowledges a write, and does not keep it
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails > 0 {
		s.fails--
		http.Error(w, `{"errors":["the plugin is gone"]}`, http.StatusInternalServerError)
		return
	}
	var body struct {
		Data  any
		Items []struct {
			Name string
			Data any
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	_, path, _ := strings.Cut(r.URL.Path, largeTenantID+"/")
	var answer any
	switch name, single := strings.CutPrefix(path, "secrets/"); {
	case single && r.Method == http.MethodGet:
		answer = map[string]any{"data": s.items[name]}
	case single:
		s.put(name, body.Data)
		answer = map[string]any{"revision": 1}
	case path == "items":
		var results []any
		for _, it := range body.Items {
			s.put(it.Name, it.Data)
			results = append(results, map[string]any{"revision": 1})
		}
		answer = map[string]any{"results": results}
	default:
		var results []any
		for _, it := range body.Items {
			results = append(results, map[string]any{"data": s.items[it.Name]})
		}
		answer = map[string]any{"results": results}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": answer})
}

func (s *shelf) put(name string, data any) {
	if s.forget == nil || !s.forget(name) {
		s.items[name] = data
	}
}

func (s *shelf) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// stocked is traffic on a shelf that has its items.
func stocked(t *testing.T) (*shelf, *traffic) {
	t.Helper()
	s := &shelf{items: map[string]any{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	config := api.DefaultConfig()
	config.Address = server.URL
	vault, err := api.NewClient(config)
	require.NoError(t, err)
	c, err := client.New(vault, client.WithRetries(0))
	require.NoError(t, err)
	tenant, err := c.Tenant(largeTenantID)
	require.NoError(t, err)
	clients := newTraffic(tenant, 3*writerShare)
	require.NoError(t, clients.fill(t.Context()))
	return s, clients
}

// worked waits until both kinds of clients have called.
func worked(t *testing.T, c *traffic) {
	t.Helper()
	reads, writes := c.reads.Load(), c.writes.Load()
	require.Eventually(t, func() bool { return c.reads.Load() > reads+20 && c.writes.Load() > writes+20 }, time.Minute, time.Millisecond)
}

func TestTrafficLosesNothing(t *testing.T) {
	s, clients := stocked(t)
	stop := clients.run(t.Context())
	worked(t, clients)
	s.change(func() { s.fails = 50 })
	worked(t, clients)
	require.NoError(t, stop())
	assert.EqualValues(t, 50, clients.repeated.Load())
	same, rewritten, err := clients.compare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 3*writerShare, same)
	assert.Positive(t, rewritten)
	assert.LessOrEqual(t, rewritten, 3*trafficWriters)
}

func TestTrafficSeesAWriteThatIsLost(t *testing.T) {
	s, clients := stocked(t)
	lost := make(chan struct{})
	var once sync.Once
	s.change(func() {
		s.forget = func(name string) bool {
			if name != itemName(0) {
				return false
			}
			once.Do(func() { close(lost) })
			return true
		}
	})
	stop := clients.run(t.Context())
	<-lost // sooner or later: which items are written is random
	worked(t, clients)
	require.NoError(t, stop(), "no client reads what another writes")
	require.Positive(t, clients.acked[0])
	same, _, err := clients.compare(t.Context())
	require.ErrorIs(t, err, errDiffers)
	require.ErrorContains(t, err, itemName(0))
	assert.Equal(t, 3*writerShare-1, same)
}

func TestTrafficSeesAReadThatDiffers(t *testing.T) {
	s, clients := stocked(t)
	s.change(func() {
		for i := range clients.acked {
			if i%writerShare >= trafficWriters {
				s.items[itemName(i)] = map[string]any{"value": "another"}
			}
		}
	})
	stop := clients.run(t.Context())
	require.Eventually(t, func() bool { return clients.reads.Load() > 0 }, time.Minute, time.Millisecond)
	require.ErrorIs(t, stop(), errDiffers)
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 50_000: "50,000", 1_234_567: "1,234,567"} {
		assert.Equal(t, want, grouped(n))
	}
}
