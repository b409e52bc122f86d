// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// sweep sweeps the table once, from the checkpoint on, and returns how many texts
// do not open. It outlasts restarts of Vault and the database.
func (j *postgresJob) sweep(ctx context.Context, total int64) (refused int64, err error) {
	m := j.a.meter(total, "rewrapping")
	defer m.finish()
	before, moved := j.keep.Progress, time.Now()
	if before.After == "" {
		before = client.Progress{}
	}
	sweep := client.Sweep{
		Store: j.store, Tenant: j.tenants.of, Batch: j.o.batch, Writers: j.writers(), Rate: j.o.rate,
		Refused: func(r client.Refused) { j.a.tellRefused(r.Key, r.Err) },
	}
	for {
		step := before
		sweep.Done = func(p client.Progress) error {
			moved = time.Now()
			step = before.Plus(p)
			if err := j.keep.save(step); err != nil {
				return err
			}
			return m.show(step.Scanned, summaryOf("progress", step, false))
		}
		_, err := sweep.Run(ctx, before.After)
		before = step
		if err == nil {
			before.Rewrapped, before.Raced = before.Rewrapped+j.total.Rewrapped, before.Raced+j.total.Raced
			j.total = before
			return before.Refused, nil
		}
		if err := j.outlast(ctx, err, moved); err != nil {
			return 0, errors.Join(err, j.keep.flush())
		}
	}
}

// writers is how many batches are written at once. While one waits for the disk another is
// at work; more than two found nothing left to do.
func (j *postgresJob) writers() int {
	if j.o.rate > 0 {
		return 1
	}
	return 2
}

// outlast waits after a failure that a restart of Vault or the database ends.
func (j *postgresJob) outlast(ctx context.Context, err error, moved time.Time) error {
	return j.a.outlast(ctx, err, moved, j.o.patience, mayPassOrDatabase)
}

func mayPassOrDatabase(err error) bool {
	return !isRefusedTLS(err) && (mayPass(err) || databaseMayPass(err))
}

// left counts the texts, and those that are not of their tenants' current
// versions.
func (j *postgresJob) left(ctx context.Context) (total, left int64, of map[string]*holdings, err error) {
	err = j.lasting(ctx, func() error {
		total, left, of, err = j.countLeft(ctx)
		return err
	})
	return total, left, of, err
}

func (j *postgresJob) countLeft(ctx context.Context) (total, left int64, of map[string]*holdings, err error) {
	counts, err := j.store.counts(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	of = map[string]*holdings{}
	for _, c := range counts {
		total += c.n
		h := of[c.tenant]
		if h == nil {
			h = &holdings{}
			if h.version, err = j.versionOf(ctx, c.tenant); err != nil {
				return 0, 0, nil, err
			}
			of[c.tenant] = h
		}
		if h.version > 0 && c.version == fmt.Sprintf("v%d", h.version) {
			h.current += c.n
			continue
		}
		h.left += c.n
		left += c.n
	}
	return total, left, of, nil
}

// versionOf is a tenant's current version, and 0 for what is no tenant: its rows are
// refused.
func (j *postgresJob) versionOf(ctx context.Context, id string) (int, error) {
	t, err := j.tenants.client.Tenant(id)
	var version int
	if err == nil {
		version, err = t.CurrentVersion(ctx)
	}
	if errors.Is(err, client.ErrTenantID) || errors.Is(err, client.ErrNoTenant) || errors.Is(err, client.ErrProviderDenied) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("tenant %s: %w", id, err)
	}
	return version, nil
}

// errSampled ends the sweep of an estimate.
var errSampled = errors.New("enough")

// estimate counts, and opens and seals as much of the table as takes a second to
// tell how long all of it would take.
func (j *postgresJob) estimate(ctx context.Context) error {
	total, left, _, err := j.left(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	sweep := client.Sweep{
		Store: j.store, Tenant: j.tenants.of, Batch: j.o.batch, DryRun: true,
		Refused: func(r client.Refused) { j.a.tellRefused(r.Key, r.Err) },
		Done: func(client.Progress) error {
			if time.Since(started) > time.Second {
				return errSampled
			}
			return nil
		},
	}
	p, err := sweep.Run(ctx, "")
	if err != nil && !errors.Is(err, errSampled) {
		return err
	}
	rate := float64(p.Scanned) / time.Since(started).Seconds()
	if j.o.rate > 0 {
		rate = min(rate, j.o.rate)
	}
	var seconds float64
	if rate > 0 {
		seconds = float64(total) / rate
	}
	if err := j.a.tell(map[string]any{
		"event": "estimate", "texts": total, "to_rewrap": left, "sampled": p.Scanned, "refused": p.Refused,
		"per_second": int64(rate), "seconds": int64(seconds),
	}, "%d of %d texts are to be rewrapped; at %d a second, without the writes, it takes %s or more; %d of %d looked at do not open",
		left, total, int64(rate), age(time.Duration(seconds*float64(time.Second))), p.Refused, p.Scanned); err != nil {
		return err
	}
	if p.Refused > 0 {
		return fmt.Errorf("%w: %d do not open", errRefused, p.Refused)
	}
	return nil
}
