// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	// requestsInFlight bounds the records that one request for many changes at once.
	requestsInFlight = 32
	// waitForIndex bounds how long a request for all waits for the index to be
	// complete, for its counts.
	waitForIndex = 10 * time.Second
)

// Demand is a request for rotations of many tenants.
type Demand struct {
	// Request identifies the request: a repeated one asks for nothing more.
	Request string
	Reason  string
	By      actor.Actor
	// IncludePaused says that paused tenants are rotated, too.
	IncludePaused bool
}

// Demanded says how many tenants a request for rotations concerns.
type Demanded struct {
	Scheduled     int // are due now
	SkippedPaused int // are rotated once they are no longer paused
}

// NamedError reports a tenant that a request names and that cannot be rotated.
type NamedError struct {
	TenantID string
	Err      error // [tenant.ErrNotFound] or [tenant.ErrDeleting]
}

func (e *NamedError) Error() string { return fmt.Sprintf("tenants has %s: %s", e.TenantID, e.Err) }

// Unwrap returns what is wrong with the tenant.
func (e *NamedError) Unwrap() error { return e.Err }

// DemandAll makes every tenant whose key is older than now due. It takes one write for
// any number of tenants.
func (e *Engine) DemandAll(ctx context.Context, d Demand) (Demanded, error) {
	now := e.now()
	_, err := e.settings.UpdateRotation(ctx, func(s *settings.Rotation) {
		if s.RotateRequest != d.Request {
			s.RotateBefore, s.RotateReason, s.RotateRequest = now, d.Reason, d.Request
			s.RotateBy, s.RotatePaused = d.By, d.IncludePaused
		}
	})
	if err != nil {
		return Demanded{}, err
	}
	p, err := e.plan(ctx)
	if err != nil {
		return Demanded{}, err
	}
	e.index.follow(p)
	e.WakeNow()
	bounded, cancel := context.WithTimeout(ctx, waitForIndex)
	defer cancel()
	e.reading.wait(bounded)
	var did Demanded
	e.index.each(func(x *entry) {
		switch {
		case !x.is(active):
		case x.is(paused) && !d.IncludePaused:
			did.SkippedPaused++
		default:
			did.Scheduled++
		}
	})
	return did, nil
}

// DemandSome makes the named tenants due now. If one of them is unknown or being
// deleted, it fails with a [NamedError] before anything is written.
func (e *Engine) DemandSome(ctx context.Context, tenantIDs []string, d Demand) (did Demanded, err error) {
	for _, id := range tenantIDs {
		if _, err := e.tenants.Active(ctx, id); err != nil {
			return Demanded{}, &NamedError{id, err}
		}
	}
	paused := make([]bool, len(tenantIDs))
	g, inFlight := errgroup.WithContext(ctx)
	g.SetLimit(requestsInFlight)
	for i, id := range tenantIDs {
		g.Go(func() (err error) {
			if inFlight.Err() != nil {
				return inFlight.Err()
			}
			paused[i], err = e.demand(inFlight, id, d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Demanded{}, err
	}
	for _, isPaused := range paused {
		if isPaused {
			did.SkippedPaused++
		} else {
			did.Scheduled++
		}
	}
	e.WakeNow()
	return did, nil
}

// demand makes a tenant due, unless the same request has. One that is paused is
// rotated when it no longer is.
func (e *Engine) demand(ctx context.Context, tenantID string, d Demand) (paused bool, err error) {
	t, err := e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
		if err := next.Usable(); err != nil {
			return err
		}
		served := next.Keys.Match(func(v *keyring.Version) bool { return v.IdempotencyKey == d.Request })
		if next.RotateRequest == d.Request || served != nil {
			return tenant.ErrUnchanged
		}
		next.RotateAfter, next.RotateReason, next.RotateRequest = e.now(), d.Reason, d.Request
		next.RotateBy, next.RotatePaused = d.By, d.IncludePaused
		next.FailedInARow = 0
		return nil
	})
	if err != nil {
		return false, err
	}
	return t.RotationPaused && !d.IncludePaused, nil
}
