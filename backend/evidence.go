// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/people"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/restored"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// buildEvidence makes the rooms of the evidence log.
func (b *backend) buildEvidence(mountUUID string) {
	b.evidence = evidencelog.New(evidencelog.Config{
		Storage: b.mount, MountUUID: mountUUID, Started: b.logStarted, Now: b.now,
		Report: func(err error) { b.Logger().Warn("the evidence log failed", "error", err) },
		Wake:   func() { b.ledger.Drive() },
		GiveUp: jobs.ReadOnly,
		Retry:  250 * time.Millisecond,
	})
	persons := people.NewStore(b.mount)
	b.ledger = ledger.New(ledger.Config{Log: b.evidence, People: persons, Jobs: b.jobs, Now: b.now, Logger: b.Logger()})
	b.Named = persons.Named
	p := &b.evidencePaths
	p.Log, p.People, p.Ledger = b.evidence, persons, b.ledger
	p.Witnesses = witnesses.NewStore(b.evidence, b.mount)
	p.Restored = restored.NewEngine(restored.Config{Log: b.evidence, Keys: b.keys, Tenants: b.tenants})
	b.tenants.UseLedger(b.ledger)
	b.settings.UseLedger(b.ledger)
	b.keys.UseLedger(b.ledger)
}

// logStarted says which binary keeps the log.
func (b *backend) logStarted(ctx context.Context) (evidence.LogStarted, error) {
	config, err := b.settings.Config(ctx)
	if err != nil {
		return evidence.LogStarted{}, err
	}
	started := evidence.LogStarted{
		PluginVersion: Version, PluginSHA256: version.SHA256(), VaultVersion: "unknown", OrgID: config.OrgID,
	}
	if env, err := b.System().PluginEnv(ctx); err == nil && env != nil && env.VaultVersion != "" {
		started.VaultVersion = env.VaultVersion
	}
	return started, nil
}
