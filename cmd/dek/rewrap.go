// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

func (a *app) rewrapCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rewrap",
		Short: "Bring what lies outside of Vault to the current version of its key",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), usage("say what to rewrap"))
		},
	}
	cmd.AddCommand(a.rewrapFilesCommand(), a.rewrapJSONLCommand(), a.rewrapPostgresCommand())
	return cmd
}

// tenants keeps the AEADs of the tenants that a command meets. They lie in two halves: when
// the newer one is full the older is closed, so that none is that was given lately.
type tenants struct {
	client *client.Client
	max    int // in each half
	newer  map[string]*client.AEAD
	older  map[string]*client.AEAD
}

// maxTenants is how many AEADs are kept: their keys take memory.
const maxTenants = 10_000

// newTenants keeps more of them only where a batch may be of more tenants.
func (a *app) newTenants(batch int) (*tenants, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	return &tenants{c, max(maxTenants/2, batch), map[string]*client.AEAD{}, map[string]*client.AEAD{}}, nil
}

// of is the AEAD of a tenant.
func (t *tenants) of(id string) (*client.AEAD, error) {
	if aead := t.newer[id]; aead != nil {
		return aead, nil
	}
	tenant, err := t.client.Tenant(id)
	if err != nil {
		return nil, err
	}
	if len(t.newer) >= t.max {
		if err := closeAll(t.older); err != nil {
			return nil, err
		}
		t.newer, t.older = map[string]*client.AEAD{}, t.newer
	}
	aead := t.older[id]
	if delete(t.older, id); aead == nil {
		aead = tenant.AEAD()
	}
	t.newer[id] = aead
	return aead, nil
}

// close drops all keys.
func (t *tenants) close() error { return errors.Join(closeAll(t.newer), closeAll(t.older)) }

func closeAll(aeads map[string]*client.AEAD) error {
	var errs []error
	for _, aead := range aeads {
		errs = append(errs, aead.Close())
	}
	clear(aeads)
	return errors.Join(errs...)
}

// summary is what a rewrap command tells on its way, and at its end.
type summary struct {
	Event     string `json:"event"`
	Scanned   int64  `json:"scanned"`
	Rewrapped int64  `json:"rewrapped"`
	Current   int64  `json:"current"`
	Empty     int64  `json:"empty"`
	Raced     int64  `json:"raced"`
	Refused   int64  `json:"refused"`
	DryRun    bool   `json:"dry_run,omitempty"`
}

func summaryOf(event string, p client.Progress, dryRun bool) summary {
	return summary{event, p.Scanned, p.Rewrapped, p.Current, p.Empty, p.Raced, p.Refused, dryRun}
}

// tellSummary tells it, and ends with errRefused if something was.
func (a *app) tellSummary(p client.Progress, dryRun bool) error {
	verb := "rewrapped"
	if dryRun {
		verb = "to be rewrapped"
	}
	if err := a.tell(summaryOf("done", p, dryRun), "%d %s, %d current already, %d empty, %d written by others meanwhile, %d refused, of %d",
		p.Rewrapped, verb, p.Current, p.Empty, p.Raced, p.Refused, p.Scanned); err != nil {
		return err
	}
	if p.Refused > 0 {
		return fmt.Errorf("%w: %d, each named above", errRefused, p.Refused)
	}
	return nil
}

// tellRefused names what does not open, or may not be read or replaced.
func (a *app) tellRefused(where string, err error) {
	if a.json {
		_ = a.tell(map[string]string{"event": "refused", "key": where, "error": err.Error()}, "") // the end tells again
		return
	}
	a.say("%s: %s", where, err)
}

// collectSeldom lets garbage grow to four times what is in use before it is collected,
// unless GOGC says otherwise. A batch is a few megabytes, so that there was hardly a batch
// without a collection.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}
