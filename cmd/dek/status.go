// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the fleet is doing",
		Long: `Show how the fleet is doing: tenants, rotations, which tenants are overdue, failed or
blocked, how old the oldest key is.

With --watch it looks again and again, until it is interrupted, and then ends with 0.
On a terminal it draws over what it has shown. While Vault does not answer it says so,
and goes on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval <= 0 {
				return usage("--interval must be above 0")
			}
			if watch {
				return a.watchStatus(cmd.Context(), interval)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.tell(s, "%s", statusText(s))
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often --watch looks")
	return cmd
}

// watchStatus shows the status again and again. It ends without an error once ctx does.
func (a *app) watchStatus(ctx context.Context, interval time.Duration) error {
	c, err := a.client(client.WithRetries(0)) // it looks again by itself
	if err != nil {
		return err
	}
	v := &view{a: a}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		s, err := c.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // interrupted, as it is meant to be
		case err != nil && !mayPass(err):
			return err
		case err != nil:
			err = v.unanswered(err)
		default:
			err = v.show(s)
		}
		if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
