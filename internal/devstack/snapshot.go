// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Snapshot writes a snapshot of the server's storage, which must be [Raft]. It does not
// disturb what the server is doing.
func (s *Stack) Snapshot(ctx context.Context, to io.Writer) error {
	if s.opts.Storage != Raft {
		return fmt.Errorf("take a snapshot: storage is %q, must be %q", s.opts.Storage, Raft)
	}
	return s.Client().Sys().RaftSnapshotWithContext(ctx, to)
}

// Restore has the server take an earlier snapshot of its own for its storage, and returns
// when it is active again.
func (s *Stack) Restore(ctx context.Context, snapshot io.Reader) error {
	if err := s.Client().Sys().RaftSnapshotRestoreWithContext(ctx, snapshot, false); err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	err := poll(readyTimeout, ctx.Done(), func() (bool, error) { return s.takeUpRestored(ctx), nil })
	if err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	return nil
}

// Restore has the cluster take a snapshot of another server for its storage, and returns
// when a node is active. Every node is then unsealed by the other's key, and the other's
// root token holds, as for an operator who restores on new machines.
func (c *Cluster) Restore(ctx context.Context, snapshot io.Reader, from *Stack) error {
	leader, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	if err := leader.Client().Sys().RaftSnapshotRestoreWithContext(ctx, snapshot, true); err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	for _, node := range c.nodes {
		node.creds = from.creds
	}
	err = poll(clusterTimeout, ctx.Done(), func() (bool, error) {
		active := false
		for _, node := range c.nodes {
			active = node.takeUpRestored(ctx) || active
		}
		return active, nil
	})
	if err != nil {
		return fmt.Errorf("restore a snapshot: %w", errors.Join(err, ctx.Err()))
	}
	return nil
}

// takeUpRestored unseals the node if the snapshot has sealed it, and reports whether it
// serves what was restored: then it knows the root token. A node that has not yet noticed
// the snapshot is asked again.
func (s *Stack) takeUpRestored(ctx context.Context) bool {
	status, err := s.newClient("").Sys().SealStatusWithContext(ctx)
	if err != nil {
		return false
	}
	if status.Sealed {
		_, _ = s.newClient("").Sys().UnsealWithContext(ctx, s.creds.UnsealKey) // or the next time
		return false
	}
	_, err = s.Client().Auth().Token().LookupSelfWithContext(ctx)
	return err == nil
}
