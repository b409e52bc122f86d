// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"time"
)

const kekCountedFrom = "kek/counted_from"

// countedFrom says from when the age of a KEK is counted of which it is not known when
// it was made.
type countedFrom struct {
	KEKID string    `json:"kek_id"`
	At    time.Time `json:"at"`
}

// KEKSince returns the time from which the age of the KEK in r is counted: when it was
// made, or else what DateKEK has noted; zero if neither is known.
func (s *Store) KEKSince(ctx context.Context, r *KEKRecord) (time.Time, error) {
	if !r.CreatedAt.IsZero() {
		return r.CreatedAt, nil
	}
	var c countedFrom
	if _, err := s.mount.GetJSON(ctx, kekCountedFrom, &c); err != nil || c.KEKID != r.KEKID {
		return time.Time{}, err
	}
	return c.At, nil
}

// DateKEK counts the age of the KEK in r, of which KEKSince knows nothing, from now on,
// and returns that time.
//
// It does not go into the record of the KEK. To put that as it was read, with a date,
// could undo a switch whose Put was reported as failed, and which a worker has seen by
// then, once Vault's cache has dropped the old record.
func (s *Store) DateKEK(ctx context.Context, r *KEKRecord) (time.Time, error) {
	now := s.now()
	return now, s.mount.PutJSON(ctx, kekCountedFrom, countedFrom{KEKID: r.KEKID, At: now})
}
