// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	// requestsInFlight bounds the records that one request for many reads or changes at
	// once.
	requestsInFlight = 64
	// waitForIndex bounds how long a request for all waits for the index to be
	// complete, for its counts.
	waitForIndex = 10 * time.Second
)

// Demand is a request for rotations of many tenants. For all of them it becomes the
// campaign in the organization's settings ([settings.Campaign]), for named ones a
// [tenant.Request] in the record of each. Either way a tenant owes a rotation from then on
// ([tenant.Record.Owes]), until one that was started later completes ([tenant.Record.End]).
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

// ask is the request as records keep it. If a request like it was given up before its
// answer, lately, it goes on with that one. over is called at its end.
func (e *Engine) ask(ctx context.Context, d Demand, tenantIDs []string) (a settings.Ask, over func()) {
	request, note := e.unanswered.begin(d, tenantIDs, e.now())
	return settings.Ask{
		Request: request, Reason: d.Reason, By: d.By, IncludePaused: d.IncludePaused, At: e.now(),
	}, func() { note(ctx.Err() != nil, e.now()) }
}

// DemandAll makes every tenant owe a rotation, with one write for any number of tenants: it
// raises the campaign's number, and a tenant whose record has a lower one owes. It then sets
// the index by the new plan and wakes the rounds; no rotation is started here.
func (e *Engine) DemandAll(ctx context.Context, d Demand) (did Demanded, err error) {
	a, over := e.ask(ctx, d, nil)
	defer over()
	_, err = e.settings.UpdateRotation(ctx, func(s *settings.Rotation) error {
		if !s.Campaign.Begin(a) {
			return settings.ErrUnchanged
		}
		return nil
	})
	if err != nil {
		return Demanded{}, err
	}
	p, err := e.plan(ctx)
	if err != nil {
		return Demanded{}, err
	}
	e.index.SetPlan(p)
	e.WakeNow()
	bounded, cancel := context.WithTimeout(ctx, waitForIndex)
	defer cancel()
	e.reading.wait(bounded)
	did.Scheduled, did.SkippedPaused = e.index.CountCampaign(p, d.IncludePaused)
	return did, nil
}

// DemandSome makes the named tenants owe a rotation. If one of them is unknown or being
// deleted, it fails with a [NamedError] before anything is written. After any other
// error some have been written: to repeat the request asks for the others.
func (e *Engine) DemandSome(ctx context.Context, tenantIDs []string, d Demand) (did Demanded, err error) {
	err = eachTenant(ctx, tenantIDs, func(ctx context.Context, id string) error {
		if _, err := e.tenants.Active(ctx, id); err != nil {
			return &NamedError{id, err}
		}
		return nil
	})
	if err != nil {
		return Demanded{}, err
	}
	a, over := e.ask(ctx, d, tenantIDs)
	defer over()
	defer e.WakeNow() // for those that have been written, after an error, too
	var paused atomic.Int64
	err = eachTenant(ctx, tenantIDs, func(ctx context.Context, id string) error {
		t, err := e.tenants.Update(ctx, id, func(next *tenant.Record) error {
			if err := next.Usable(); err != nil {
				return err
			}
			return next.Ask(a)
		})
		if err == nil && t.RotationPaused && !t.Request.IncludePaused {
			paused.Add(1)
		}
		return err
	})
	if err != nil {
		return Demanded{}, err
	}
	did.SkippedPaused = int(paused.Load())
	did.Scheduled = len(tenantIDs) - did.SkippedPaused
	return did, nil
}

// eachTenant calls f for tenants, many at once, until one fails.
func eachTenant(ctx context.Context, ids []string, f func(context.Context, string) error) error {
	g, inFlight := errgroup.WithContext(ctx)
	g.SetLimit(requestsInFlight)
	for _, id := range ids {
		g.Go(func() error {
			if inFlight.Err() != nil {
				return inFlight.Err()
			}
			return f(inFlight, id)
		})
	}
	return g.Wait()
}
