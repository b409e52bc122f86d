// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// steadyWriter writes an item by way of one node, again and again, each time with the next
// number.
type steadyWriter struct {
	a    *arena
	node *devstack.Stack
	path string

	mu           sync.Mutex
	sent         int // the latest number
	acknowledged int // the latest that was written
	// unanswered are the numbers that may or may not have been written, and may yet be, after
	// later ones.
	unanswered map[int]bool
	answers    map[string]int
	faults     []string
}

// write sends the next number. A write is done, or answered 503 with what to do. While no
// node is active Vault answers by itself: then it may be any 5xx but that of a mount that is
// held read-only, whose text says nothing that the caller could do.
func (w *steadyWriter) write() {
	w.mu.Lock()
	w.sent++
	n := w.sent
	w.mu.Unlock()
	begun := w.a.quiesced.Load()
	r := w.a.askNode(context.Background(), w.node, http.MethodPut, w.path, map[string]any{"data": map[string]any{"v": strconv.Itoa(n)}})
	now := w.a.quiesced.Load()
	text := strings.Join(r.body.Errors, " ")
	hint := r.err == nil && r.status == http.StatusServiceUnavailable &&
		(strings.Contains(text, "step down or restart") || strings.Contains(text, "try again"))
	excused := (begun != now || now%2 == 1) && !r.refusal() && !strings.Contains(text, logical.ErrSetupReadOnly.Error())

	w.mu.Lock()
	defer w.mu.Unlock()
	if !r.ok() && !r.refusal() {
		w.unanswered[n] = true
	}
	switch {
	case r.ok():
		w.acknowledged = n
		w.answers["written"]++
	case hint:
		w.answers["503 with what to do"]++
	case excused:
		w.answers["Vault's own, without an active node"]++
	default:
		w.faults = append(w.faults, fmt.Sprintf("write %d: %s", n, r))
	}
}

// mayBe reports whether a write can be the latest to have had an effect if the latest that
// was acknowledged by then is least: it is that one or a later one, or was never answered.
func (w *steadyWriter) mayBe(n, least int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return n >= least || w.unanswered[n]
}

func (w *steadyWriter) numbers() (sent, acknowledged int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent, w.acknowledged
}

// steadyWriters are writers by way of every node of a cluster.
type steadyWriters struct {
	c   *devstack.Cluster
	a   *arena
	all []*steadyWriter
}

// keepWriting writes to a tenant until the test ends, or stop is called.
func keepWriting(t *testing.T, c *devstack.Cluster, tenant string) (writers *steadyWriters, stop func()) {
	t.Helper()
	writers = &steadyWriters{c: c, a: newArena(c.Nodes(), c)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, node := range c.Nodes() {
		w := &steadyWriter{
			a: writers.a, node: node, path: tenantPath(tenant, fmt.Sprintf("secrets/node-%d", i+1)),
			unanswered: map[int]bool{}, answers: map[string]int{},
		}
		writers.all = append(writers.all, w)
		running.Go(func() {
			for ; ctx.Err() == nil; pass(rotationTick) {
				w.write()
			}
		})
	}
	stop = func() {
		cancel()
		running.Wait()
		writers.a.client.CloseIdleConnections()
	}
	t.Cleanup(stop)
	return writers, stop
}

// failover has another node become active, and returns it once each node takes writes again.
func (s *steadyWriters) failover(t *testing.T, step string) *devstack.Stack {
	t.Helper()
	s.a.quiesced.Add(1)
	leader := failover(t, s.c)
	s.goOn(t, step)
	s.a.quiesced.Add(1)
	s.check(t, step)
	return leader
}

// goOn waits until each node has taken a write that was sent from now on.
func (s *steadyWriters) goOn(t *testing.T, step string) {
	t.Helper()
	for _, w := range s.all {
		from, _ := w.numbers()
		require.Eventually(t, func() bool {
			_, acknowledged := w.numbers()
			return acknowledged > from
		}, recoveryLimit, rotationTick, "%s: %s takes no write", step, w.node.VaultAddr())
	}
}

// check holds the answers against what they must be, and what is there against what was
// acknowledged.
func (s *steadyWriters) check(t *testing.T, step string) {
	t.Helper()
	s.goOn(t, step)
	for i, w := range s.all {
		_, least := w.numbers()
		item := succeeded(t, callRoot(t, w.node, http.MethodGet, w.path, nil))["data"].(map[string]any)
		most, _ := w.numbers()
		n, err := strconv.Atoi(item["v"].(string))
		require.NoError(t, err)
		assert.True(t, w.mayBe(n, least), "%s: by way of node %d write %d was acknowledged, and %d is there", step, i+1, least, n)
		assert.LessOrEqual(t, n, most, step)
		w.mu.Lock()
		assert.Empty(t, w.faults, "%s: by way of node %d", step, i+1)
		w.faults = nil
		t.Logf("%s: by way of node %d: %v", step, i+1, w.answers)
		clear(w.answers)
		w.mu.Unlock()
	}
}

// requireHeldReadOnly has Vault hold the mount read-only: every write says what to do, and
// reads go on.
func requireHeldReadOnly(t *testing.T, s *devstack.Stack, tenant string) {
	t.Helper()
	for path, body := range map[string]any{
		"secrets/written": map[string]any{"data": map[string]any{"v": "1"}}, "dek/rotate": nil, "holders/orders": nil, "": nil,
	} {
		a := callRoot(t, s, http.MethodPut, strings.TrimSuffix(tenantPath(tenant, path), "/"), body)
		assert.Equal(t, http.StatusServiceUnavailable, a.Status, path)
		assert.Contains(t, a.errors(), "The active node must step down or restart", path)
	}
	succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))
	succeeded(t, callRoot(t, s, http.MethodGet, "dek/status", nil))
}

// healthy waits until the node is active.
func healthy(t *testing.T, s *devstack.Stack) {
	t.Helper()
	require.Eventually(t, func() bool {
		return callRoot(t, s, http.MethodGet, "sys/health", nil).Status == http.StatusOK
	}, time.Minute, rotationTick)
}
