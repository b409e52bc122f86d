// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"strconv"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// headOf begins an event about a rotation, which names who started it.
func (e *Engine) headOf(r *tenant.Rotation) evidence.Head {
	h := evidence.Head{Time: e.now(), Actor: r.Evidence.Actor, Trigger: r.Trigger}
	if h.Actor == "" {
		h.Actor = evidence.System // it was started before there was an evidence log
	}
	return h
}

// attribute settles who started a rotation and why, as events say it. It may write, so
// it comes before the lock of the tenant.
func (e *Engine) attribute(ctx context.Context, req *Request) (err error) {
	if req.evidence.Actor, err = e.ledger.Actor(ctx, req.InitiatedBy); err == nil {
		req.evidence.Reason, err = e.ledger.Reason(ctx, req.Reason)
	}
	return err
}

// interval is how old a tenant's key may get, in seconds.
func (e *Engine) interval(ctx context.Context, t *tenant.Record) (int64, error) {
	s, err := e.settings.Rotation(ctx)
	return int64(t.Interval(s) / time.Second), err
}

// logCreation adds the event of a tenant's creation.
func (e *Engine) logCreation(ctx context.Context, t *tenant.Record) error {
	h, err := e.ledger.Head(ctx, "")
	if err != nil {
		return err
	}
	interval, err := e.interval(ctx, t)
	if err != nil {
		return err
	}
	v := t.Keys.Active()
	return t.Carry(h, &evidence.TenantCreated{
		Version: int64(v.Number), KeyID: v.KeyID, KeyType: string(v.KeyType), RotationInterval: interval,
	})
}

// logSettings adds the event of a change of the tenant's own settings, if there is one.
func (e *Engine) logSettings(ctx context.Context, before, next *tenant.Record) error {
	change := evidence.Change{Old: evidence.Values{}, New: evidence.Values{}}
	if before.RotationInterval != next.RotationInterval {
		for t, values := range map[*tenant.Record]evidence.Values{before: change.Old, next: change.New} {
			interval, err := e.interval(ctx, t)
			if err != nil {
				return err
			}
			values["rotation_interval"] = strconv.FormatInt(interval, 10)
		}
	}
	if before.RotationPaused != next.RotationPaused {
		change.Old["rotation_paused"] = strconv.FormatBool(before.RotationPaused)
		change.New["rotation_paused"] = strconv.FormatBool(next.RotationPaused)
	}
	if len(change.New) == 0 {
		return nil
	}
	h, err := e.ledger.Head(ctx, "")
	if err != nil {
		return err
	}
	return next.Carry(h, &evidence.SettingsChanged{Path: "tenant", Change: change})
}

// logStart adds the events of a rotation that next's record starts, or tries again.
func (e *Engine) logStart(ctx context.Context, next *tenant.Record) error {
	h := e.headOf(next.Rotation)
	h.Reason = next.Rotation.Evidence.Reason
	if caller, err := e.ledger.Head(ctx, ""); err == nil {
		h.RequestID = caller.RequestID
	}
	to := next.Keys.Find(next.Rotation.To)
	if to.Fingerprint != "" && next.Rotation.Retries == 0 {
		if err := next.Carry(h, &evidence.KeyImported{
			Version: int64(to.Number), KeyID: to.KeyID, KeyType: string(to.KeyType), Fingerprint: to.Fingerprint,
		}); err != nil {
			return err
		}
	}
	about, err := e.about(ctx, next, next.Rotation)
	if err != nil {
		return err
	}
	return next.Carry(h, &evidence.RotationStarted{Rotation: about})
}

// about says what every event of a rotation names.
func (e *Engine) about(ctx context.Context, t *tenant.Record, r *tenant.Rotation) (evidence.Rotation, error) {
	interval, err := e.interval(ctx, t)
	about := evidence.Rotation{
		RotationID: r.ID, PreviousVersion: int64(r.From), NewVersion: int64(r.To),
		PreviousKeyID: r.FromKeyID, NewKeyID: r.ToKeyID, RotationInterval: interval,
	}
	for number, to := range map[int]*string{r.From: &about.PreviousKeyType, r.To: &about.NewKeyType} {
		if v := t.Keys.Find(number); v != nil {
			*to = string(v.KeyType)
		}
	}
	return about, err
}

// logEnd adds the event of a rotation's end to the record that says so.
func (r *Run) logEnd(ctx context.Context, next *tenant.Record, ended *tenant.Rotation) error {
	about, err := r.e.about(ctx, next, ended)
	if err != nil {
		return err
	}
	config, err := r.e.settings.Config(ctx)
	if err != nil {
		return err
	}
	usage, err := r.e.items.Usage(ctx, next)
	if err != nil {
		return err
	}
	r.mu.Lock()
	scanned, failures := r.listedAt, len(r.failures)
	r.mu.Unlock()
	end := evidence.RotationEnd{
		Rotation: about, ItemsBefore: counts(ended.ToRotate), ItemsAfter: counts(usage.Items()),
		PagesBefore: int64(ended.PagesToRotate), PagesAfter: int64(usage.AllPages()), PagesLost: int64(r.pagesLost) + lost(next, usage),
		ScannedAt: scanned, Failures: int64(failures), RetiredKeyRetention: int64(config.RetiredKeyRetention / time.Second),
	}
	h := r.e.headOf(ended)
	switch ended.Phase { //nolint:exhaustive // it has ended
	case tenant.Completed:
		return next.Carry(h, &evidence.RotationCompleted{RotationEnd: end})
	case tenant.RolledBack:
		return next.Carry(h, &evidence.RotationRolledBack{RotationEnd: end})
	default:
		end.PagesOnPreviousVersion = int64(failures)
		return next.Carry(h, &evidence.RotationFailed{RotationEnd: end})
	}
}

// lost counts the pages that were given up with their version's key and are not replaced.
func lost(t *tenant.Record, usage itemstore.Usage) (n int64) {
	for _, v := range t.Keys.Versions {
		if v.State == keyring.Destroyed {
			n += int64(usage.Pages(v.Number))
		}
	}
	return n
}

func counts(c item.Counts) evidence.Counts {
	out := evidence.Counts{}
	for kind, n := range c.Map() {
		out[kind] = int64(n)
	}
	return out
}
