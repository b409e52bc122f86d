// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Report is what a holder says that it holds.
type Report struct {
	// Oldest is the least version that is still held, the current one if nothing is.
	Oldest int
	// Counts are how many ciphertexts of each version are held; nil: not counted.
	Counts map[int]int64
	// ScanStartedAt is what [Engine.StartScan] returned before the place was searched;
	// zero: it was not. Then nothing is known to be gone by the report.
	ScanStartedAt time.Time
	By            actor.Actor
}

// StartScan returns the time at which a scan of a holder's place starts. Its report names
// that time. It fails with [ErrNotFound].
func (e *Engine) StartScan(ctx context.Context, tenantID, name string) (time.Time, error) {
	var started time.Time
	_, err := e.update(ctx, tenantID, func(next *tenant.Record) error {
		h := next.Holder(name)
		if h == nil {
			return ErrNotFound
		}
		started = e.now().Truncate(time.Microsecond)
		if n := len(h.Scans); n > 0 && !started.After(h.Scans[n-1]) {
			started = h.Scans[n-1] // two at once, or a clock that was set back: the earlier scan counts
			return tenant.ErrUnchanged
		}
		scans := append(slices.Clone(h.Scans), started)
		h.Scans = scans[max(0, len(scans)-maxScans):]
		return nil
	})
	return started, err
}

// Report takes a report, and returns the holder. It fails with [ErrNotFound] or a
// [ReportError].
func (e *Engine) Report(ctx context.Context, tenantID, name string, r Report) (tenant.Holder, error) {
	t, err := e.update(ctx, tenantID, func(next *tenant.Record) error {
		h := next.Holder(name)
		if h == nil {
			return ErrNotFound
		}
		if err := r.check(next, h, e.now()); err != nil {
			return err
		}
		before := *h
		if r.repeats(h) {
			return tenant.ErrUnchanged
		}
		r.apply(h, e.now())
		return e.logChange(ctx, next, &before, h)
	})
	e.counters.reported(err)
	if err != nil {
		return tenant.Holder{}, err
	}
	return found(t, name)
}

// check refuses a report that cannot be true.
func (r Report) check(t *tenant.Record, h *tenant.Holder, now time.Time) error {
	current := t.Keys.Active().Number
	v := t.Keys.Find(r.Oldest)
	switch {
	case r.Oldest < 1 || r.Oldest > current:
		return &ReportError{fmt.Sprintf("oldest_version must be from 1 to %d, the current version", current)}
	case t.Keys.WasDestroyed(r.Oldest) || v != nil && (v.State == keyring.Destroyed || v.ExternalKeyEnds):
		return &ReportError{"oldest_version must not be a version that was destroyed"}
	case r.ScanStartedAt.IsZero():
	case r.ScanStartedAt.After(now), !slices.ContainsFunc(h.Scans, r.ScanStartedAt.Equal):
		return &ReportError{"scan_started_at must be a time that report/start answered for this holder lately"}
	}
	for version, n := range r.Counts {
		switch {
		case version < 1 || version >= t.Keys.Next:
			return &ReportError{"counts must name versions that the tenant's key has had"}
		case n > 0 && version < r.Oldest:
			return &ReportError{"oldest_version must be the least version of which counts has any"}
		}
	}
	return nil
}

// repeats reports whether a holder has made this report already.
func (r Report) repeats(h *tenant.Holder) bool {
	return !r.ScanStartedAt.IsZero() && r.ScanStartedAt.Equal(h.ScanStartedAt) &&
		r.Oldest == h.Oldest && r.Oldest == h.GoneBelow && maps.Equal(r.Counts, h.Counts)
}

// apply notes a report. What it found at all counts in any case. That something is gone
// counts by the scan that began last: reports may arrive in another order. Of two scans
// that began at once, the one that found more counts.
func (r Report) apply(h *tenant.Holder, now time.Time) {
	h.Oldest, h.Counts, h.ReportedAt, h.ReportedBy = r.Oldest, r.Counts, now, r.By.Bare()
	if r.ScanStartedAt.After(h.ScanStartedAt) {
		h.GoneBelow, h.ScanStartedAt = r.Oldest, r.ScanStartedAt
		return
	}
	h.GoneBelow = min(h.GoneBelow, r.Oldest)
}
