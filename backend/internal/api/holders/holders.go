// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"context"
	"strconv"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// named returns which holder the path names.
func named(d *framework.FieldData) (tenantID, name string, err error) {
	if tenantID, err = api.TenantID(d); err != nil {
		return "", "", err
	}
	name, _ = d.Get("name").(string)
	return tenantID, name, api.CheckName(name)
}

func (r *Rooms) list(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	p, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	names, err := r.Engine().Names(ctx, id)
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(p.OfSorted(names)), nil
}

func (r *Rooms) read(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, name, err := named(d)
	if err != nil {
		return nil, err
	}
	h, err := r.Engine().Read(ctx, id, name)
	if err != nil {
		return nil, err
	}
	return r.answer(ctx, h), nil
}

func (r *Rooms) write(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, name, err := named(d)
	if err != nil {
		return nil, err
	}
	var change holders.Change
	description, given, err := api.TextField(d, "description")
	if err != nil {
		return nil, err
	}
	if given {
		change.Description = &description
	}
	if raw := d.Raw["backups_kept"]; raw != nil {
		kept, err := r.Duration("backups_kept", raw, holders.MaxBackupsKept)
		if err != nil {
			return nil, err
		}
		change.BackupsKept = &kept
	}
	h, err := r.Engine().Write(ctx, id, name, change)
	if err != nil {
		return nil, err
	}
	return r.answer(ctx, h), nil
}

func (r *Rooms) delete(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, name, err := named(d)
	if err != nil {
		return nil, err
	}
	return nil, r.Engine().Delete(ctx, id, name)
}

func (r *Rooms) start(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, name, err := named(d)
	if err != nil {
		return nil, err
	}
	started, err := r.Engine().StartScan(ctx, id, name)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"scan_started_at": api.Time(started)}}, nil
}

func (r *Rooms) report(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, name, err := named(d)
	if err != nil {
		return nil, err
	}
	said := holders.Report{By: r.Caller(req)}
	if said.Oldest, _, err = api.IntField(d, "oldest_version"); err != nil {
		return nil, err // one that is not given is 0, which is refused once the tenant is known
	}
	if said.Counts, err = countsField(d); err != nil {
		return nil, err
	}
	if said.ScanStartedAt, err = scanField(d); err != nil {
		return nil, err
	}
	h, err := r.Engine().Report(ctx, id, name, said)
	if err != nil {
		return nil, err
	}
	return r.answer(ctx, h), nil
}

// scanField returns the time that a report names, zero if it names none.
func scanField(d *framework.FieldData) (time.Time, error) {
	text, given, err := api.TextField(d, "scan_started_at")
	if err != nil || !given || text == "" {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, api.Invalid("scan_started_at must be a time as of RFC 3339, which report/start answered")
	}
	return at.UTC(), nil
}

// countsField returns the numbers that a report has for versions, without those that are
// 0; nil if it has none.
func countsField(d *framework.FieldData) (map[int]int64, error) {
	raw := d.Raw["counts"]
	if raw == nil {
		return nil, nil
	}
	given, ok := raw.(map[string]any)
	if !ok {
		return nil, api.Invalid("counts must be an object of versions and numbers")
	}
	counts := map[int]int64{}
	for name, value := range given {
		version, err := keyring.ParseVersion(name)
		if err != nil {
			return nil, api.Invalid("counts must have versions as names: whole numbers from 1")
		}
		n, whole := api.WholeNumber(value)
		if !whole || n < 0 {
			return nil, api.Invalid("counts must have whole numbers, not below 0")
		}
		if n > 0 {
			counts[version] = int64(n)
		}
	}
	if len(counts) > holders.MaxCounts {
		return nil, api.Invalid("counts must have at most %d versions", holders.MaxCounts)
	}
	if len(counts) == 0 {
		return nil, nil
	}
	return counts, nil
}

func countsAnswer(counts map[int]int64) map[string]any {
	answer := make(map[string]any, len(counts))
	for version, n := range counts {
		answer[strconv.Itoa(version)] = n
	}
	return answer
}
