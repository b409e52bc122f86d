// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// clusterTimeout is how long nodes may take to elect a leader, and one that was
// away to catch up.
const clusterTimeout = time.Minute

// Cluster is one Vault with raft storage on several nodes on loopback: one is
// active, the others stand by and forward to it. Each node is a [Stack] without
// a proxy, to be killed, restarted and asked as any.
type Cluster struct{ nodes []*Stack }

// StartCluster brings up a cluster of so many nodes, each in a directory of its
// own under opts.DataDir, and returns when every node has a vote. A cluster does
// not start again on the directories of an earlier one.
func StartCluster(ctx context.Context, size int, opts Options) (*Cluster, error) {
	c := &Cluster{}
	if err := c.start(ctx, size, opts); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, size int, opts Options) error {
	opts.Storage, opts.NoProxy = Raft, true
	dir := opts.DataDir
	for i := range size {
		opts.nodeID = fmt.Sprintf("node-%d", i+1)
		if dir != "" {
			opts.DataDir = filepath.Join(dir, opts.nodeID)
		}
		if i == 0 {
			first, err := Start(ctx, opts)
			if err != nil {
				return err
			}
			first.member = true
			c.nodes = append(c.nodes, first)
			if err := promoteAtOnce(ctx, first); err != nil {
				return err
			}
			continue
		}
		node := &Stack{opts: opts}
		c.nodes = append(c.nodes, node)
		if err := node.join(ctx, c.nodes[0]); err != nil {
			return fmt.Errorf("join %s: %w", opts.nodeID, err)
		}
	}
	return c.Ready(ctx)
}

// promoteAtOnce lets a node that has joined vote after a second instead of ten. One that was
// killed lags while clients go on writing: a thousand entries, by default, are too many for
// autopilot to call it healthy, and two cores that run everything take minutes to catch up.
func promoteAtOnce(ctx context.Context, s *Stack) error {
	// The client's own call names a field that is Enterprise's alone.
	_, err := s.Client().Logical().WriteWithContext(ctx, "sys/storage/raft/autopilot/configuration",
		map[string]any{"server_stabilization_time": "1s", "max_trailing_logs": 20_000})
	if err != nil {
		return fmt.Errorf("configure autopilot: %w", err)
	}
	return nil
}

// join starts the node and makes it a member of the cluster that leader leads.
func (s *Stack) join(ctx context.Context, leader *Stack) error {
	if err := s.prepare(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.startVaultOnFreePorts(ctx); err != nil {
		return err
	}
	_, err := s.newClient("").Sys().RaftJoinWithContext(ctx, &api.RaftJoinRequest{LeaderAPIAddr: leader.VaultAddr()})
	if err != nil {
		return err
	}
	s.creds, s.member = leader.creds, true
	return s.unseal(ctx)
}

// Nodes are the cluster's nodes in the order in which they joined, those too
// that are down.
func (c *Cluster) Nodes() []*Stack { return c.nodes }

// Leader waits for a node to be active and returns it.
func (c *Cluster) Leader(ctx context.Context) (*Stack, error) {
	var leader *Stack
	err := poll(clusterTimeout, ctx.Done(), func() (bool, error) {
		for _, node := range c.nodes {
			code, err := getStatus(ctx, node.VaultAddr()+"/v1/sys/health")
			if err == nil && code == http.StatusOK {
				leader = node
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for a leader: %w", err)
	}
	return leader, nil
}

// Ready waits until every node is up, follows the same leader, and has a vote:
// then any one of them may be lost.
func (c *Cluster) Ready(ctx context.Context) error {
	var lacks error
	err := poll(clusterTimeout, ctx.Done(), func() (bool, error) {
		lacks = c.ready(ctx)
		return lacks == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the cluster: %w: %w", err, lacks)
	}
	return nil
}

// ready says what the cluster lacks, if anything.
func (c *Cluster) ready(ctx context.Context) error {
	addresses := map[string]bool{}
	for _, node := range c.nodes {
		leader, err := node.Client().Sys().LeaderWithContext(ctx)
		if err != nil {
			return fmt.Errorf("%s: leader: %w", node.opts.nodeID, err)
		}
		if leader.LeaderAddress == "" {
			return fmt.Errorf("%s knows no leader", node.opts.nodeID)
		}
		addresses[leader.LeaderAddress] = true
	}
	if len(addresses) != 1 {
		return fmt.Errorf("several leaders: %q", slices.Sorted(maps.Keys(addresses)))
	}
	// Asked of a node that stands by if there is one: so it does forward.
	state, err := c.nodes[len(c.nodes)-1].Client().Sys().RaftAutopilotStateWithContext(ctx)
	if err != nil || state == nil {
		return fmt.Errorf("no state of autopilot: %w", err)
	}
	if state.Healthy && len(state.Voters) == len(c.nodes) {
		return nil
	}
	var servers []string
	for id, s := range state.Servers {
		servers = append(servers, fmt.Sprintf("%s %s %s, healthy %t, last contact %s, term %d, index %d",
			id, s.Status, s.NodeStatus, s.Healthy, s.LastContact, s.LastTerm, s.LastIndex))
	}
	slices.Sort(servers)
	return fmt.Errorf("autopilot: %d voters: %s", len(state.Voters), strings.Join(servers, "; "))
}

// Stop ends every node, those that stand by first, so that none has to take over.
func (c *Cluster) Stop() error {
	var all error
	for i := len(c.nodes) - 1; i >= 0; i-- {
		all = errors.Join(all, c.nodes[i].Stop())
	}
	return all
}

// StepDown has the active node give up its place. On a cluster another node may
// take it; a node that is alone takes it again after ten seconds.
func (s *Stack) StepDown(ctx context.Context) error {
	if err := s.Client().Sys().StepDownWithContext(ctx); err != nil {
		return fmt.Errorf("step down: %w", err)
	}
	return nil
}
