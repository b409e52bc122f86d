// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

const countedFromKey = "kek/counted_from"

// countedFrom says from when the age of a KEK is counted of which it is not known when
// it was made.
type countedFrom struct {
	KEKID string    `json:"kek_id"`
	At    time.Time `json:"at"`
}

// since returns the time from which the age of the KEK in r is counted: when it was
// made, or else what countFromNow has noted; zero if neither is known.
func (e *Engine) since(ctx context.Context, r *keystore.KEKRecord) (time.Time, error) {
	if !r.CreatedAt.IsZero() {
		return r.CreatedAt, nil
	}
	var c countedFrom
	if _, err := e.mount.GetJSON(ctx, countedFromKey, &c); err != nil || c.KEKID != r.KEKID {
		return time.Time{}, err
	}
	return c.At, nil
}

// countFromNow counts the age of the KEK in r, of which since knows nothing, from now on,
// and returns that time.
//
// It does not go into the record of the KEK. To put that as it was read, with a date,
// could undo a switch whose Put was reported as failed, and which a worker has seen by
// then, once Vault's cache has dropped the old record.
func (e *Engine) countFromNow(ctx context.Context, r *keystore.KEKRecord) (time.Time, error) {
	now := e.now()
	return now, e.mount.PutJSON(ctx, countedFromKey, countedFrom{KEKID: r.KEKID, At: now})
}
