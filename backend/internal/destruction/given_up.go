// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package destruction

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// scanAll reads the header of every page that can be read.
func (e *Engine) scanAll(ctx context.Context, scan *itemstore.Scan) error {
	scan.Deltas = true
	err := scan.Run(ctx)
	if errors.Is(err, page.ErrDamaged) || storage.IsDamaged(err) {
		return nil
	}
	return err
}

// giveUp notes what was lost with a version that is destroyed already.
func giveUp(ctx context.Context, h *tenant.Held, lost *tenant.GivenUp) error {
	if lost == nil {
		return nil
	}
	_, err := h.Update(ctx, func(next *tenant.Record) error {
		next.GivenUp = lost
		return nil
	})
	return err
}

// lostWith returns what is lost with a version that is destroyed by force, and was
// before; nil if no more is lost than that.
func (e *Engine) lostWith(ctx context.Context, t *tenant.Record, version int, scan *itemstore.Scan) *tenant.GivenUp {
	more := e.givenUp(ctx, t, version, scan)
	if more.Items == 0 {
		return nil
	}
	return t.GivenUp.With(more)
}

// givenUp returns what is lost with a version that is destroyed by force: the pages on
// it, and those that cannot be read and so may be on it.
func (e *Engine) givenUp(ctx context.Context, t *tenant.Record, version int, scan *itemstore.Scan) tenant.GivenUp {
	var lost tenant.GivenUp
	note := func(p page.Prefix, reason string) {
		lost.Items += max(1, e.items.PageItems(ctx, t, p))
		lost.LostPages++
		lost.Failures = append(lost.Failures, tenant.Failure{Page: p.String(), Reason: reason})
	}
	if !t.GivenUp.Has(version) {
		lost.Versions = []int{version}
		for _, p := range scan.On(version) {
			note(p, fmt.Sprintf("lost: version %d was destroyed by force", version))
		}
	}
	for _, p := range scan.Unreadable() {
		if len(lost.Pages) == tenant.MaxGivenUpPages {
			break
		}
		if t.GaveUp(p.String()) {
			continue
		}
		lost.Pages = append(lost.Pages, p.String())
		note(p, fmt.Sprintf("lost: it could not be read when version %d was destroyed by force", version))
	}
	return lost
}
