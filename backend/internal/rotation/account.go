// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Backoff is the time that the schedule waits after a rotation that was cancelled, or
// failed for the first time in a row. Each further failure doubles it, up to the
// tenant's interval or [tenant.MaxBackoff].
const Backoff = 24 * time.Hour

// maxFailures bounds the failures that a rotation lists.
const maxFailures = 100

// backOff puts the next rotation off if the one that has just ended did not complete, so
// that the schedule does not start it again at once.
func (r *Run) backOff(ctx context.Context, next *tenant.Record) error {
	next.RotateAfter = time.Time{}
	if next.Last.Phase == tenant.Completed {
		next.FailedInARow = 0
		return nil
	}
	settings, err := r.e.settings.Rotation(ctx)
	if err != nil {
		return err
	}
	failed := next.Last.Phase == tenant.Failed
	if failed {
		next.FailedInARow++
	} else {
		next.FailedInARow = 0
	}
	wait := Backoff
	for n := 1; n < next.FailedInARow && wait < tenant.MaxBackoff; n++ {
		wait *= 2
	}
	earliest := r.e.now().Add(min(wait, tenant.MaxBackoff, next.Interval(settings)))
	if failed || next.Owes(settings).Any() || next.Expires(settings).Before(earliest) {
		next.RotateAfter = earliest
	}
	return nil
}

// account computes the final figures. An item that has left the other versions counts as
// rotated, whether a worker moved it or a request replaced or deleted it. t is the record
// that is about to be stored.
func (r *Run) account(ctx context.Context, t *tenant.Record, ended *tenant.Rotation) error {
	switch ended.Phase {
	case tenant.Completed:
		ended.Rotated = ended.ToRotate.Minus(ended.Lost)
	case tenant.RolledBack:
		ended.Rotated = item.Counts{}
	default:
		usage, err := r.e.items.Usage(ctx, t)
		if err != nil {
			return err
		}
		ended.Rotated = rotatedBy(usage, ended, r.phase == tenant.RollingBack)
	}
	ended.Failed = r.failed
	ended.Failures = slices.SortedFunc(maps.Values(r.failures), func(a, b tenant.Failure) int {
		return cmp.Compare(a.Page, b.Page)
	})
	r.addLost(t, ended)
	ended.Failures = ended.Failures[:min(len(ended.Failures), maxFailures)]
	return nil
}
