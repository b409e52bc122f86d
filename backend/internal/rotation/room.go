// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/destruction"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// ErrNoRoom reports a tenant whose record cannot hold another version.
var ErrNoRoom = errors.New("there is no room for another")

// LimitError reports a tenant whose key was rotated by hand as often as an hour allows.
type LimitError struct {
	Limit int
	After time.Duration // after which one may be started
}

// RetryAfter returns after what time the request may be sent again.
func (e *LimitError) RetryAfter() time.Duration { return e.After }

func (e *LimitError) Error() string {
	return fmt.Sprintf("the tenant's key was rotated by hand %d times within an hour, which is manual_rotations_per_hour", e.Limit)
}

// mustBeWithinLimit fails with a [LimitError] for a rotation that a caller starts and
// that is over the tenant's limit.
func (e *Engine) mustBeWithinLimit(ctx context.Context, t *tenant.Record, req *Request) error {
	if !req.Manual {
		return nil
	}
	c, err := e.settings.Config(ctx)
	if err != nil {
		return err
	}
	if after, ok := t.Clone().TakeManual(c.ManualRotationsPerHour, e.now()); !ok {
		return &LimitError{Limit: c.ManualRotationsPerHour, After: after}
	}
	return nil
}

// WatchRefusals reports to f, from then on, each tenant whose rotation is refused since
// its record is full, and the reason.
func (e *Engine) WatchRefusals(f func(tenantID, reason string)) { e.refused = f }

// mayGoForRoom reports whether a full record's version may be destroyed ahead of time,
// as far as the record tells: it is retired, so no page is on it.
func mayGoForRoom(v *keyring.Version) bool {
	return v.State == keyring.Deactivated && !v.DestroyAfter.IsZero()
}

func noRoom(t *tenant.Record) error {
	return fmt.Errorf("%d versions of the key are kept, and %w: "+
		"destroy old ones, or wait until retired_key_retention has passed", len(t.Keys.Versions), ErrNoRoom)
}

// scanIfFull looks, before the tenant's lock is taken, which versions pages are on, if
// some version has to make room for another; nil if none has to. It fails with
// [ErrNoRoom] if none can.
func (e *Engine) scanIfFull(ctx context.Context, t *tenant.Record) (*itemstore.Scan, error) {
	if t.Clone().Keys.MakeRoom() {
		return nil, nil
	}
	if t.Keys.Match(mayGoForRoom) == nil {
		return nil, noRoom(t)
	}
	scan := itemstore.NewScan(e.items, t)
	if err := scan.Run(ctx); err != nil && !errors.Is(err, page.ErrDamaged) {
		return nil, err
	}
	return scan, nil
}

// makeRoom makes room in a full record, t, for another version. It destroys the page
// keys of the oldest retired versions that no page is on and that have no external use,
// before their retention ends, and marks them in t, which the caller puts. If the start
// fails before that Put, the stored record still names keys that are gone. That is harmless:
// those versions are retired, so no page is on them, and package destruction destroys them
// again when their retention ends. It fails with [ErrNoRoom] if there are not enough.
func (e *Engine) makeRoom(ctx context.Context, t *tenant.Record, scan *itemstore.Scan) (made []tenant.Room, err error) {
	if t.Keys.MakeRoom() {
		return nil, nil
	}
	if scan == nil || scan.Incarnation() != t.Incarnation { // it has become full since
		scan = itemstore.NewScan(e.items, t)
	}
	if err := scan.Run(ctx); errors.Is(err, page.ErrDamaged) {
		return nil, fmt.Errorf("a page that cannot be read may be on any of them: %w", noRoom(t))
	} else if err != nil {
		return nil, err
	}
	listed := e.destruction.External(ctx, t.Owner())
	external, err := listed()
	if err != nil {
		return nil, err
	}
	for !t.Keys.MakeRoom() {
		v := t.Keys.Match(func(v *keyring.Version) bool {
			return mayGoForRoom(v) && scan.Pages(v.Number) == 0 && !external[v.KeyID]
		})
		if v == nil {
			return nil, noRoom(t)
		}
		gone := *v
		d := destruction.Cause{
			Head: evidence.Head{Time: e.now(), Actor: evidence.System}, Why: evidence.WhyRoom, Scanned: scan.Read(),
			External: listed,
		}
		if err := e.destruction.Destroy(ctx, t, gone, d); err != nil {
			return nil, err
		}
		made = append(made, tenant.Room{Version: gone.Number, KeyID: gone.KeyID, DestroyedAt: e.now()})
		e.log.Info("a retired key is destroyed before its time, to make room for another version",
			"tenant_id", t.ID, "key_version", gone.Number)
	}
	return made, nil
}
