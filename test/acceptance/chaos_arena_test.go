// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// recoveryLimit is how long Vault may take to answer again after a fault. A
// node that steps down alone waits ten seconds.
const recoveryLimit = 90 * time.Second

// arena is the Vault that faults strike, of one node or of several.
type arena struct {
	cluster *devstack.Cluster // nil for one node
	nodes   []*devstack.Stack
	client  *http.Client
	// keyProvider is what new tenants' own KEKs are under; empty: they have none. While
	// denied it may refuse them, with 424.
	keyProvider string
	denied      atomic.Bool

	// quiesced is even while no request may fail, and odd from just before a fault
	// until every node that is up answers again.
	quiesced atomic.Int64
	// favourite counts how often clients had to turn to another node.
	favourite atomic.Int64

	mu   sync.Mutex
	down *devstack.Stack // killed and not back yet
}

func newArena(nodes []*devstack.Stack, cluster *devstack.Cluster) *arena {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	return &arena{
		cluster: cluster, nodes: nodes,
		client: &http.Client{Transport: transport, Timeout: time.Minute},
	}
}

// live are the nodes that clients may turn to.
func (a *arena) live() []*devstack.Stack {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.nodes), func(n *devstack.Stack) bool { return n == a.down })
}

func (a *arena) setDown(node *devstack.Stack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = node
}

// reply is the answer to a request, or the error in its place.
type reply struct {
	status int
	body   struct {
		Errors []string       `json:"errors"`
		Data   map[string]any `json:"data"`
	}
	err error
}

func (r reply) ok() bool { return r.err == nil && r.status < 300 }

// absent is the answer for an item or an entry that is not there, and for an
// empty list. Other answers of 404 (there is no such mount, say) are not.
func (r reply) absent() bool {
	return r.err == nil && r.status == http.StatusNotFound &&
		(len(r.body.Errors) == 0 || strings.Contains(r.body.Errors[0], "item not found"))
}

// refusal is an answer that blames the request, rather than Vault.
func (r reply) refusal() bool { return r.err == nil && r.status >= 400 && r.status < 500 }

func (r reply) String() string {
	if r.err != nil {
		return r.err.Error()
	}
	return fmt.Sprintf("%d %q", r.status, r.body.Errors)
}

// ask sends a request with the root token, to another node if one cannot be
// reached at all. Anything else that goes wrong is for the caller to see. Entries of storage
// it asks the active node for: a standby of OpenBao answers with those that have reached it.
func (a *arena) ask(method, path string, body any) reply {
	if strings.HasPrefix(path, "sys/raw/") {
		active, err := a.leader(context.Background())
		if err != nil {
			return reply{err: err}
		}
		return a.askNode(context.Background(), active, method, path, body)
	}
	var r reply
	for range a.nodes {
		live := a.live()
		at := a.favourite.Load()
		r = a.askNode(context.Background(), live[at%int64(len(live))], method, path, body)
		if !errors.Is(r.err, syscall.ECONNREFUSED) {
			break
		}
		a.favourite.CompareAndSwap(at, at+1)
	}
	return r
}

func (a *arena) askNode(ctx context.Context, node *devstack.Stack, method, path string, body any) (r reply) {
	data, err := json.Marshal(body)
	if err != nil {
		return reply{err: err}
	}
	if body == nil {
		data = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, node.VaultAddr()+"/v1/"+path, bytes.NewReader(data))
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("X-Vault-Token", node.RootToken())
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{err: err}
	}
	r.status = resp.StatusCode
	if len(raw) > 0 {
		// What is no JSON is no answer of Vault's, and shows by its status.
		_ = json.Unmarshal(raw, &r.body)
	}
	return r
}

// answers waits until every node that is up answers a request to the engine, by
// itself or through the active one.
func (a *arena) answers(path string) error {
	for _, node := range a.live() {
		var last reply
		err := until(recoveryLimit, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			last = a.askNode(ctx, node, http.MethodGet, path, nil)
			return last.ok()
		})
		if err != nil {
			return fmt.Errorf("%s does not answer: %s: %w", node.VaultAddr(), last, err)
		}
	}
	return nil
}

// logSizes are the lengths of the nodes' logs.
func (a *arena) logSizes() []int {
	sizes := make([]int, len(a.nodes))
	for i, node := range a.nodes {
		if info, err := os.Stat(node.LogPath("vault")); err == nil {
			sizes[i] = int(info.Size())
		}
	}
	return sizes
}

// logSince is what a node, and the plugin there, has logged since its log had a
// length: the last hundred lines of it.
func logSince(node *devstack.Stack, size int) string {
	log, err := os.ReadFile(node.LogPath("vault"))
	if err != nil || len(log) < size {
		return fmt.Sprint(err)
	}
	lines := strings.Split(string(log[size:]), "\n")
	return strings.Join(lines[max(0, len(lines)-100):], "\n")
}

// until polls ready until it says so or the time is over.
func until(limit time.Duration, ready func() bool) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s", limit)
		}
		<-tick.C
	}
	return nil
}

// pass lets some time pass, as the schedule of a round has it.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}
