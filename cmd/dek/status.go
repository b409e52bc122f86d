// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
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
		Long:  "Show how the fleet is doing: tenants, rotations, who is overdue, how old the oldest key is.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval <= 0 {
				return usage("--interval must be above 0")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if watch {
				return a.watchStatus(cmd.Context(), c, interval)
			}
			return a.showStatus(cmd.Context(), c)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often --watch looks")
	return cmd
}

func (a *app) watchStatus(ctx context.Context, c *client.Client, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if isTerminal(a.stdout) && !a.json {
			if _, err := fmt.Fprint(a.stdout, "\x1b[H\x1b[2J"); err != nil {
				return err
			}
		}
		if err := a.showStatus(ctx, c); err != nil {
			if ctx.Err() != nil {
				return nil // interrupted, as it is meant to be
			}
			if !mayPass(err) {
				return err
			}
			a.say("dek: %s", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *app) showStatus(ctx context.Context, c *client.Client) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if err := a.tell(s, `Tenants              %d
Rotations active     %d
Rotations failed     %d
Overdue              %d
Due within 7 days    %d
Oldest key           %s
As of                %s`, s.Tenants, s.RotationsActive, s.RotationsFailed, s.Overdue, s.DueWithin7Days,
		age(time.Duration(s.OldestKeyAge)), s.AsOf.Format(time.RFC3339)); err != nil || a.json {
		return err
	}
	for _, id := range s.OverdueTenants {
		if _, err := fmt.Fprintln(a.stdout, "Overdue tenant      ", id); err != nil {
			return err
		}
	}
	return nil
}

// age is a duration in the unit that a person would take.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.Round(time.Second).String()
}
