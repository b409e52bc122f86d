// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Fleet is a part of the fleet, with what the records of its tenants say, and figures of
// the whole.
type Fleet struct {
	dueindex.Fleet
	Tenants []*Overview // those of TenantIDs

	Complete bool // every record has been read since the start
	AsOf     time.Time
}

// Fleet answers a query from the index in memory, and reads the records of the tenants
// that it returns. It fails with [dueindex.ErrAfter].
func (e *Engine) Fleet(ctx context.Context, q dueindex.Query) (*Fleet, error) {
	p, err := e.plan(ctx)
	if err != nil {
		return nil, err
	}
	part, err := e.index.Fleet(p, q)
	if err != nil {
		return nil, err
	}
	f := &Fleet{Fleet: *part, AsOf: p.Now}
	if f.Tenants, err = e.Overviews(ctx, part.TenantIDs); err != nil {
		return nil, err
	}
	for i, o := range f.Tenants {
		if o == nil { // a part that is not full would pass for the last
			f.Tenants[i] = &Overview{TenantID: part.TenantIDs[i], Err: tenant.ErrNotFound}
		}
	}
	f.Complete = e.reading.isComplete()
	return f, nil
}
