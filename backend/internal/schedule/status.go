// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
)

// Status describes the state of the fleet, exactly once the index is complete. Until
// then its counts are lower bounds.
type Status struct {
	Complete bool
	Read     int // records read since the start
	dueindex.Counts

	Damaged map[string]int // entries of storage that cannot be read, by kind

	LastRun time.Time // zero: not since the start
	AsOf    time.Time
}

// Status counts the tenants in the index.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	p, err := e.plan(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Complete: e.reading.isComplete(), Read: int(e.reading.records.Load()), Counts: e.index.Count(p),
		LastRun: e.LastRun(), AsOf: p.Now,
	}
	e.addDamaged(&s)
	return s, nil
}
