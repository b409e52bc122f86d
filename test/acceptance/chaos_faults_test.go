// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// fault is a kind of blow. strike returns once it has been dealt; a rotation
// that ends after that was hit unfinished.
type fault struct {
	name string
	// latest is the percentage of items rotated by which it is to strike: what
	// takes its time must begin early to hit.
	latest float64
	lasts  time.Duration // what a rotation is to last at least; default 1.5 s
	strike func(ctx context.Context, a *arena) error
	// restore brings back what does not come back by itself; nil if all does.
	restore func(ctx context.Context, a *arena) error
	// later happens some time after Vault has recovered, while all goes on.
	later func(ctx context.Context, a *arena) error
	// providers are the key providers that get into trouble before the blow, and out of it once
	// Vault has recovered; nil if the kind has none.
	providers *chaosProviders
	// atRenewal starts the rotation just before the lease of the tenant's KEK is renewed, so
	// that the trouble meets the renewal.
	atRenewal bool
	briefly   bool // the trouble lasts a fifth of what the seed has
}

// nodeFaults strike a Vault of one node, clusterFaults one of three. The short
// form leaves out what takes long and a cluster does as well.
func nodeFaults(short bool) []fault {
	faults := []fault{
		{name: "plugin-sigkill", latest: 95, strike: func(_ context.Context, a *arena) error { return a.nodes[0].KillPlugin() }},
		{name: "vault-sigkill", latest: 95, strike: killVault, restore: restartVault},
		{name: "plugin-reload", latest: 90, strike: func(ctx context.Context, a *arena) error { return a.nodes[0].ReloadPlugin(ctx) }},
		{
			name:    "seal",
			latest:  80,
			strike:  func(ctx context.Context, a *arena) error { return a.nodes[0].Seal(ctx) },
			restore: func(ctx context.Context, a *arena) error { return a.nodes[0].Unseal(ctx) },
		},
	}
	if !short {
		faults = append(faults, stepDownFault())
	}
	return faults
}

func clusterFaults() []fault {
	return []fault{
		stepDownFault(),
		{name: "leader-sigkill", latest: 95, strike: killLeader, later: bringBack},
		{name: "no-quorum", latest: 80, strike: stopFollowers, restore: letFollowersGoOn},
	}
}

func killVault(_ context.Context, a *arena) error {
	a.nodes[0].KillVault()
	return nil
}

func restartVault(ctx context.Context, a *arena) error { return a.nodes[0].RestartVault(ctx) }

// stepDownFault has the active node step down, which it does after it has
// answered, and waits for a node that has become active since.
func stepDownFault() fault {
	var before time.Time
	return fault{
		name:   "step-down",
		latest: 60,
		lasts:  4 * time.Second,
		strike: func(ctx context.Context, a *arena) error {
			leader, err := a.leader(ctx)
			if err != nil {
				return err
			}
			if before, err = activeSince(ctx, leader); err != nil {
				return err
			}
			if err := leader.StepDown(ctx); err != nil {
				return err
			}
			return until(recoveryLimit, func() bool {
				since, err := activeSince(ctx, leader)
				return err != nil || since.After(before)
			})
		},
		restore: func(ctx context.Context, a *arena) error {
			return until(recoveryLimit, func() bool {
				for _, node := range a.nodes {
					since, err := activeSince(ctx, node)
					if err == nil && since.After(before) {
						return true
					}
				}
				return false
			})
		},
	}
}

// activeSince is when the node became active. It fails for one that is not.
func activeSince(ctx context.Context, node *devstack.Stack) (time.Time, error) {
	status, err := node.Client().Sys().LeaderWithContext(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if !status.IsSelf {
		return time.Time{}, errors.New("the node is not active")
	}
	return status.ActiveTime, nil
}

func (a *arena) leader(ctx context.Context) (*devstack.Stack, error) {
	if a.cluster == nil {
		return a.nodes[0], nil
	}
	return a.cluster.Leader(ctx)
}

// stepDownLimit is how long a leader may take to find that it has lost its quorum,
// some two seconds, and to stop being active: the engine takes five at most.
const stepDownLimit = 20 * time.Second

// stopFollowers stops the processes of all nodes but the active one. Its storage
// takes nothing any more: what is being written hangs, until it notices and gives
// up being active, which must not wait for what hangs.
func stopFollowers(ctx context.Context, a *arena) error {
	leader, err := a.leader(ctx)
	if err != nil {
		return err
	}
	for _, node := range a.nodes {
		if node != leader {
			err = errors.Join(err, signalNode(node, syscall.SIGSTOP))
		}
	}
	if err == nil {
		err = until(stepDownLimit, func() bool {
			_, notActive := activeSince(ctx, leader)
			return notActive != nil
		})
	}
	if err != nil {
		err = fmt.Errorf("the leader without a quorum is still active: %w", err)
		return errors.Join(err, letFollowersGoOn(ctx, a))
	}
	return nil
}

func letFollowersGoOn(_ context.Context, a *arena) error {
	var err error
	for _, node := range a.nodes {
		err = errors.Join(err, signalNode(node, syscall.SIGCONT))
	}
	return err
}

// signalNode sends a signal to a node's server.
func signalNode(node *devstack.Stack, signal syscall.Signal) error {
	pids, err := node.PIDs()
	if err != nil {
		return err
	}
	return syscall.Kill(pids[len(pids)-1], signal) // a node has no proxy
}

func killLeader(ctx context.Context, a *arena) error {
	leader, err := a.leader(ctx)
	if err != nil {
		return err
	}
	a.setDown(leader)
	leader.KillVault()
	return nil
}

// bringBack starts the killed node again and waits until the cluster could lose
// another.
func bringBack(ctx context.Context, a *arena) error {
	if err := a.down.RestartVault(ctx); err != nil {
		return fmt.Errorf("bring the killed node back: %w", err)
	}
	if err := a.cluster.Ready(ctx); err != nil {
		return err
	}
	a.setDown(nil)
	return nil
}
