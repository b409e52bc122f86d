// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

func (a *app) rotateCommand() *cobra.Command {
	var request client.RotationRequest
	var wait bool
	cmd := &cobra.Command{
		Use:   "rotate TENANT",
		Short: "Rotate a tenant's key",
		Long: `Start a rotation of a tenant's key, and with --wait follow it to its end.

With --wait it ends with 0 once the rotation is completed, and with 1 if it failed or was
rolled back. While Vault restarts it waits, for 2 minutes at most. An interrupt ends the
command, and not the rotation.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.tenant(args[0])
			if err != nil {
				return err
			}
			ctx := client.WithWarnings(cmd.Context(), func(warning string) { a.say("dek: warning: %s", warning) })
			r, err := t.Rotate(ctx, request)
			if client.OutcomeUnknown(err) {
				return fmt.Errorf("it is not known whether a rotation has been started: %w", err)
			}
			if err != nil {
				return err
			}
			if wait {
				if r, err = a.follow(cmd.Context(), t, r); err != nil {
					return err
				}
			}
			return a.tellRotation(r, wait)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the rotation to its end")
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the history")
	cmd.Flags().StringVar(&request.KeyType, "key-type", "", "type of the new key: xaes256-gcm or aes256-gcm (default: as it is)")
	return cmd
}

func (a *app) tellRotation(r *client.Rotation, waited bool) error {
	if err := a.tell(r, "%s: %s, version %d to %d, %d of %d items", r.ID, r.Status, r.PreviousVersion, r.NewVersion,
		sum(r.ItemsRotated), sum(r.ItemsToRotate)); err != nil {
		return err
	}
	if waited && r.Status != client.Completed {
		return fmt.Errorf("the rotation ended %s, with %d items failed", r.Status, r.ItemsFailed)
	}
	return nil
}

// follow shows a rotation until it ends. It outlasts a failover.
func (a *app) follow(ctx context.Context, t *client.Tenant, r *client.Rotation) (*client.Rotation, error) {
	m := a.meter(sum(r.ItemsToRotate), "re-encrypting")
	defer m.finish()
	id, seen := r.ID, time.Now()
	for {
		var shown error
		ended, err := t.WaitRotation(ctx, id, 500*time.Millisecond, func(next *client.Rotation) {
			seen = time.Now()
			a.tellHeld(r, next)
			r = next
			shown = errors.Join(shown, m.show(sum(r.ItemsRotated), r))
		})
		if err == nil {
			return ended, shown
		}
		if err := a.outlast(ctx, err, seen, patience, mayPass); errors.Is(err, errInterrupted) {
			return nil, fmt.Errorf("%w: rotation %s goes on", err, id)
		} else if err != nil {
			return nil, fmt.Errorf("rotation %s is no longer followed: %w", id, err)
		}
	}
}

// tellHeld says when a rotation begins to wait for an administrator or a key provider, or goes on.
func (a *app) tellHeld(before, now *client.Rotation) {
	switch {
	case a.json || before.Status == now.Status && before.WaitingFor == now.WaitingFor:
	case now.Status == client.Paused, now.Status == client.RollingBack:
		a.say("dek: rotation %s is %s", now.ID, strings.ReplaceAll(string(now.Status), "_", " "))
	case now.WaitingFor != "":
		a.say("dek: rotation %s waits for key provider %s", now.ID, now.WaitingFor)
	case now.Status == client.InProgress:
		a.say("dek: rotation %s goes on", now.ID)
	}
}

func sum(counts map[string]int) (n int64) {
	for _, count := range counts {
		n += int64(count)
	}
	return n
}
