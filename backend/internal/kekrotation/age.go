// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

// interval is how old a KEK may get.
const interval = 365 * 24 * time.Hour

// Age says how old the mount's KEK is.
type Age struct {
	Since   time.Time // from when it is counted; zero: there is no KEK, or it has no date
	Age     time.Duration
	Overdue bool // it is older than it may get, and no rotation has begun
}

// Age describes the age of the KEK, zero if there is none yet. It reads one entry.
func (e *Engine) Age(ctx context.Context) (Age, error) {
	r, err := e.keys.KEK(ctx)
	if errors.Is(err, keystore.ErrNoKEK) || err == nil && r.CreatedAt.IsZero() {
		return Age{}, nil
	}
	if err != nil {
		return Age{}, err
	}
	a := Age{Since: r.CreatedAt, Age: max(e.now().Sub(r.CreatedAt), 0)}
	a.Overdue = a.Age >= interval && !r.Rotation.Unfinished()
	return a, nil
}
