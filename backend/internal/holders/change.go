// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Change has the fields that a write of a holder names; nil: not named.
type Change struct {
	Description *string
	BackupsKept *time.Duration
}

// Read returns a holder. It fails with [tenant.ErrNotFound], [tenant.ErrDeleting] or
// [ErrNotFound].
func (e *Engine) Read(ctx context.Context, tenantID, name string) (tenant.Holder, error) {
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return tenant.Holder{}, err
	}
	return found(t, name)
}

func found(t *tenant.Record, name string) (tenant.Holder, error) {
	if h := t.Holder(name); h != nil {
		return *h, nil
	}
	return tenant.Holder{}, ErrNotFound
}

// Names returns the names of a tenant's holders, sorted. It fails as Read does.
func (e *Engine) Names(ctx context.Context, tenantID string) ([]string, error) {
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(t.Holders))
	for i := range t.Holders {
		names = append(names, t.Holders[i].Name)
	}
	slices.Sort(names)
	return names, nil
}

// Write creates a holder, or changes it, and returns it. One that is created holds every
// version until it reports. It fails with [ErrTooMany].
func (e *Engine) Write(ctx context.Context, tenantID, name string, c Change) (tenant.Holder, error) {
	t, err := e.update(ctx, tenantID, func(next *tenant.Record) error {
		h := next.Holder(name)
		var before *tenant.Holder
		if h == nil {
			if len(next.Holders) >= MaxHolders {
				return ErrTooMany
			}
			next.Holders = append(next.Holders, tenant.Holder{Name: name})
			h = &next.Holders[len(next.Holders)-1]
		} else {
			was := *h
			before = &was
		}
		if c.Description != nil {
			h.Description = *c.Description
		}
		if c.BackupsKept != nil {
			h.BackupsKept = *c.BackupsKept
		}
		if before != nil && before.Description == h.Description && before.BackupsKept == h.BackupsKept {
			return tenant.ErrUnchanged
		}
		return e.logChange(ctx, next, before, h)
	})
	if err != nil {
		return tenant.Holder{}, err
	}
	return found(t, name)
}

// Delete says that nothing is held at a place any more. It fails with [ErrNotFound].
func (e *Engine) Delete(ctx context.Context, tenantID, name string) error {
	_, err := e.update(ctx, tenantID, func(next *tenant.Record) error {
		h := next.Holder(name)
		if h == nil {
			return ErrNotFound
		}
		gone := *h
		next.Holders = slices.DeleteFunc(next.Holders, func(h tenant.Holder) bool { return h.Name == name })
		return e.logChange(ctx, next, &gone, nil)
	})
	return err
}

// Follow says whether all places that keep ciphertexts of a tenant are named, so that
// external keys go as the holders report.
func (e *Engine) Follow(ctx context.Context, tenantID string, follow bool) (*tenant.Record, error) {
	return e.update(ctx, tenantID, func(next *tenant.Record) error {
		if next.FollowHolders == follow {
			return tenant.ErrUnchanged
		}
		next.FollowHolders = follow
		h, err := e.ledger.Head(ctx, "")
		if err != nil {
			return err
		}
		return next.Carry(h, &evidence.SettingsChanged{Path: "tenant", Change: evidence.Change{
			Old: evidence.Values{"follow_holders": strconv.FormatBool(!follow)},
			New: evidence.Values{"follow_holders": strconv.FormatBool(follow)},
		}})
	})
}

// update changes the record of a tenant that can be used, and settles what follows from
// the change in the same Put.
func (e *Engine) update(ctx context.Context, tenantID string, change func(*tenant.Record) error) (*tenant.Record, error) {
	config, err := e.settings.Config(ctx)
	if err != nil {
		return nil, err
	}
	t, err := e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
		if err := next.Usable(); err != nil {
			return err
		}
		if err := change(next); err != nil {
			return err
		}
		settle(next, config, e.now())
		return nil
	})
	if err == nil && e.anyDue(t) {
		e.destroyNow(t.ID)
	}
	return t, err
}

// destroyNow destroys keys without waiting for the schedule, which goes on with it if it
// fails.
func (e *Engine) destroyNow(tenantID string) {
	e.jobs.RunFunc("holders/"+tenantID, func(ctx context.Context) {
		if _, err := e.DestroyGone(ctx, tenantID); err != nil && ctx.Err() == nil {
			e.log.Warn("an external key could not be destroyed, the schedule tries again", "tenant_id", tenantID, "error", err)
		}
	}, nil)
}

// anyDue reports whether an external key of t is to be destroyed by now.
func (e *Engine) anyDue(t *tenant.Record) bool {
	now := e.now()
	for i := range t.Keys.Versions {
		if at := t.ExternalKeyEnds(&t.Keys.Versions[i]); !at.IsZero() && !now.Before(at) {
			return true
		}
	}
	return false
}

// logChange adds the event of a change of a holder; nil: it is not there.
func (e *Engine) logChange(ctx context.Context, next *tenant.Record, before, after *tenant.Holder) error {
	h, err := e.ledger.Head(ctx, "")
	if err != nil {
		return err
	}
	name, change := "", evidence.Change{}
	for holder, to := range map[*tenant.Holder]*evidence.Values{before: &change.Old, after: &change.New} {
		if holder != nil {
			name, *to = holder.Name, valuesOf(holder)
		}
	}
	return next.Carry(h, &evidence.HolderChanged{Holder: name, Change: change})
}

// valuesOf is a holder as evidence has it, without its description.
func valuesOf(h *tenant.Holder) evidence.Values {
	v := evidence.Values{"backups_kept": strconv.FormatInt(int64(h.BackupsKept/time.Second), 10)}
	if h.Oldest > 0 {
		v["oldest_version"] = strconv.Itoa(h.Oldest)
		v["gone_below"] = strconv.Itoa(h.GoneBelow)
	}
	if !h.ScanStartedAt.IsZero() {
		v["scan_started_at"] = h.ScanStartedAt.UTC().Format(time.RFC3339Nano)
	}
	if len(h.Counts) > 0 {
		v["counts"] = countsText(h.Counts)
	}
	return v
}

// countsText is a map of versions to numbers as text, such as 1:20,3:7.
func countsText(counts map[int]int64) string {
	versions := make([]int, 0, len(counts))
	for version := range counts {
		versions = append(versions, version)
	}
	slices.Sort(versions)
	parts := make([]string, len(versions))
	for i, version := range versions {
		parts[i] = strconv.Itoa(version) + ":" + strconv.FormatInt(counts[version], 10)
	}
	return strings.Join(parts, ",")
}
