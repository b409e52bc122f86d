// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// holdings is what a count found of one tenant.
type holdings struct {
	version int // the current one; 0: there is no such tenant
	current int64
	left    int64 // of other versions, or no ciphertexts
}

// holderName is the name of the table's holder: --holder, or else the table as it was given.
func (o *postgresOptions) holderName() string {
	if o.holder != "" {
		return o.holder
	}
	return o.table
}

// startScans begins a scan for the holder of each tenant that was counted, before the count
// that is to be reported. A tenant without the holder has no scan.
func (j *postgresJob) startScans(ctx context.Context, counted map[string]*holdings) (map[string]time.Time, error) {
	scans := map[string]time.Time{}
	if j.o.noReport {
		return scans, nil
	}
	ids := slices.Sorted(maps.Keys(counted))
	if j.o.tenant != "" {
		ids = []string{j.o.tenant} // also if no row is left
	}
	for _, id := range ids {
		err := j.lasting(ctx, func() error {
			t, err := j.tenants.client.Tenant(id)
			if err == nil {
				scans[id], err = t.StartScan(ctx, j.o.holderName())
			}
			return err
		})
		if err != nil {
			delete(scans, id)
			if err := j.unreported(id, err); err != nil {
				return nil, err
			}
		}
	}
	return scans, nil
}

// report reports to the holders of the tenants of which the last count found nothing left.
func (j *postgresJob) report(ctx context.Context, scans map[string]time.Time, counted map[string]*holdings) error {
	if len(scans) > 0 {
		if err := j.lasting(ctx, func() error { return j.store.flush(ctx) }); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(scans)) {
		h := counted[id]
		if h == nil { // no row is left
			version, err := j.versionOf(ctx, id)
			if err != nil {
				return err
			}
			h = &holdings{version: version}
		}
		if h.left > 0 || h.version == 0 {
			j.a.say("dek: nothing is reported for tenant %s: %d texts are not of the current version", id, h.left)
			continue
		}
		err := j.lasting(ctx, func() error {
			t, err := j.tenants.client.Tenant(id)
			if err == nil {
				_, err = t.Report(ctx, j.o.holderName(), client.HolderReport{
					OldestVersion: h.version, Counts: map[int]int64{h.version: h.current}, ScanStartedAt: scans[id],
				})
			}
			return err
		})
		if err != nil {
			if err := j.unreported(id, err); err != nil {
				return err
			}
			continue
		}
		if err := j.a.tell(map[string]any{
			"event": "reported", "tenant": id, "holder": j.o.holderName(), "oldest_version": h.version, "count": h.current,
		}, "holder %s of tenant %s: reported that nothing is below version %d", j.o.holderName(), id, h.version); err != nil {
			return err
		}
	}
	return nil
}

// unreported passes over a tenant that has no such holder, or a token that may not report,
// unless the holder was named on the command line.
func (j *postgresJob) unreported(id string, err error) error {
	if j.o.holder != "" || !errors.Is(err, client.ErrNotFound) && !errors.Is(err, client.ErrForbidden) && !errors.Is(err, client.ErrName) &&
		!errors.Is(err, client.ErrTenantID) {
		return fmt.Errorf("reporting for tenant %s: %w", id, err)
	}
	if !errors.Is(err, client.ErrNotFound) && !errors.Is(err, client.ErrTenantID) {
		j.a.say("dek: nothing is reported for tenant %s: %s", id, err)
	}
	return nil
}

// lasting calls f until it succeeds, or fails for another reason than a restart of Vault
// or the database.
func (j *postgresJob) lasting(ctx context.Context, f func() error) error {
	return j.a.lasting(ctx, j.o.patience, mayPassOrDatabase, f)
}
