// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
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

It ends with 1 if the rotation could not be started, failed or was rolled back.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.tenant(args[0])
			if err != nil {
				return err
			}
			r, err := t.Rotate(cmd.Context(), request)
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
	seen := time.Now()
	for {
		var shown error
		ended, err := t.WaitRotation(ctx, r.ID, 500*time.Millisecond, func(r *client.Rotation) {
			seen = time.Now()
			shown = errors.Join(shown, m.show(sum(r.ItemsRotated), r))
		})
		switch {
		case err == nil:
			return ended, shown
		case ctx.Err() != nil:
			return nil, fmt.Errorf("interrupted: rotation %s goes on", r.ID)
		case !mayPass(err) || time.Since(seen) > patience:
			return nil, err
		}
		if !sleep(ctx, time.Second) {
			return nil, ctx.Err()
		}
	}
}

func sum(counts map[string]int) (n int64) {
	for _, count := range counts {
		n += int64(count)
	}
	return n
}
