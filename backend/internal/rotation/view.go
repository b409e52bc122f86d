// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"math"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// defaultRate is the items a second assumed until a rotation has been measured.
const defaultRate = 10_000

// View is a rotation as callers see it.
type View struct {
	*tenant.Rotation
	Status         string
	Rotated        item.Counts
	Percent        float64 // of the items to rotate, 0 to 100
	ItemsPerSecond float64
	UpdatedAt      time.Time
	// WaitingFor is the key provider that it waits for, empty: none.
	WaitingFor string
	// EstimatedCompletion is zero once the rotation is over.
	EstimatedCompletion time.Time
}

var statusOf = map[tenant.Phase]string{
	tenant.Sweeping:    "in_progress",
	tenant.Retiring:    "in_progress",
	tenant.RollingBack: "rolling_back",
	tenant.Completed:   "completed",
	tenant.RolledBack:  "rolled_back",
	tenant.Failed:      "failed",
}

// Status returns the status of r as callers see it.
func Status(r *tenant.Rotation) string {
	if r.Paused && r.EndedAt.IsZero() {
		return "paused"
	}
	return statusOf[r.Phase]
}

// Describe describes a rotation of a tenant by its ID. A rotation ends under the
// tenant's exclusive lock, and this holds it shared: when the view says that the
// rotation has ended, nothing of it is unfinished but its intent. It fails with [ErrNotFound],
// [tenant.ErrNotFound] or [tenant.ErrDeleting].
func (e *Engine) Describe(ctx context.Context, tenantID, rotationID string) (View, error) {
	if err := e.countUnfinished(ctx, tenantID, rotationID); err != nil {
		return View{}, err
	}
	defer e.tenants.Shared(tenantID)()
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return View{}, err
	}
	r, err := e.Find(ctx, t, rotationID)
	if err != nil {
		return View{}, err
	}
	return e.View(ctx, t, r)
}

// countUnfinished counts the pages for a view of an unfinished rotation. The first count
// reads every page: before the tenant's lock, not under it. The view itself deals with an
// error of it.
func (e *Engine) countUnfinished(ctx context.Context, tenantID, rotationID string) error {
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return err
	}
	if t.Rotation != nil && t.Rotation.ID == rotationID {
		_, _ = e.items.Usage(ctx, t)
	}
	return nil
}

// View describes a rotation of t as it stands.
func (e *Engine) View(ctx context.Context, t *tenant.Record, r *tenant.Rotation) (View, error) {
	v := View{Rotation: r, Status: Status(r), Rotated: r.Rotated, UpdatedAt: r.UpdatedAt}
	if !r.EndedAt.IsZero() {
		v.ItemsPerSecond = perSecond(r.Rotated.Total(), r.EndedAt.Sub(r.StartedAt))
		v.Percent = percent(r.Rotated, r.ToRotate, r.Phase == tenant.Completed)
		return v, nil
	}
	if err := e.viewUnfinished(ctx, t, &v); err != nil {
		return View{}, err
	}
	v.Percent = percent(v.Rotated, r.ToRotate, false)
	return v, nil
}

// viewUnfinished fills in what changes while a rotation runs. It counts the pages, which
// reads them only the first time. Where they cannot be counted, it falls back on the stored
// progress, which may be up to a second older than what callers have seen.
func (e *Engine) viewUnfinished(ctx context.Context, t *tenant.Record, v *View) error {
	v.WaitingFor = e.keys.WaitingFor(t.KEKRanges()...)
	e.mu.Lock()
	run, rate := e.live[v.ID], e.rate
	e.mu.Unlock()
	if usage, err := e.items.Usage(ctx, t); err == nil {
		v.Rotated = rotatedBy(usage, v.Rotation, v.Phase == tenant.RollingBack)
	} else {
		p, err := e.tenants.Progress(ctx, t, v.ID)
		if err != nil {
			return err
		}
		if p != nil {
			v.Rotated, v.UpdatedAt = p.Rotated, p.At
		}
	}
	if rate == 0 {
		rate = defaultRate
	}
	if run != nil {
		run.mu.Lock()
		v.UpdatedAt = run.movedAt
		if run.counted {
			v.ItemsPerSecond = perSecond(v.Rotated.Total()-run.rotatedBefore.Total(), e.now().Sub(run.began))
		}
		run.mu.Unlock()
		if v.ItemsPerSecond > 0 {
			rate = v.ItemsPerSecond
		}
	}
	left := v.ToRotate.Total() - v.Rotated.Total()
	if v.Phase == tenant.RollingBack {
		left = v.ToRotate.Total()
	}
	seconds := float64(max(left, 0)) / rate
	v.EstimatedCompletion = e.now().Add(time.Duration(seconds * float64(time.Second)))
	return nil
}

// rotatedBy returns how many of the items to rotate are rotated. Nothing new comes to
// the versions that a rotation leaves: what there was to rotate less what is still
// there has been rotated, or deleted. On the way back that is the new version, and
// what is still on it, at most what there was.
func rotatedBy(usage itemstore.Usage, r *tenant.Rotation, back bool) item.Counts {
	if back {
		return r.ToRotate.Min(usage.On(r.To))
	}
	return r.ToRotate.Minus(usage.Beside(r.To))
}

func (e *Engine) forget(rotationID string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.live, rotationID)
}

// ended forgets a run and keeps its rate for estimates.
func (e *Engine) ended(r *Run, rotation *tenant.Rotation) {
	e.forget(rotation.ID)
	e.mu.Lock()
	defer e.mu.Unlock()
	if rate := perSecond(rotation.Rotated.Total()-r.rotatedBefore.Total(), rotation.EndedAt.Sub(r.began)); rate > 0 {
		e.rate = rate
	}
}

func perSecond(items int, d time.Duration) float64 {
	if d <= 0 || items <= 0 {
		return 0
	}
	return math.Round(float64(items)/d.Seconds()*10) / 10
}

func percent(done, all item.Counts, completed bool) float64 {
	switch {
	case completed:
		return 100
	case all.Total() == 0:
		return 0
	}
	return math.Floor(float64(done.Total())/float64(all.Total())*1000) / 10
}
