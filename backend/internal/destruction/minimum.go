// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package destruction

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// MinDecryptionError reports a least version for ciphertexts above the current one, or one
// that was destroyed and that the minimum was to be lowered to.
type MinDecryptionError struct{ Current, Destroyed int }

// ErrMinDecryption is what every [MinDecryptionError] is.
var ErrMinDecryption = errors.New("min_decryption_version is above the current version, or is destroyed")

// Unwrap returns [ErrMinDecryption].
func (e *MinDecryptionError) Unwrap() error { return ErrMinDecryption }

func (e *MinDecryptionError) Error() string {
	if e.Destroyed > 0 {
		return fmt.Sprintf("min_decryption_version must not be lowered to %d, a version that is destroyed", e.Destroyed)
	}
	return fmt.Sprintf("min_decryption_version must be at most %d, the current version", e.Current)
}

// SetMinDecryptionVersion sets the least version whose ciphertexts are opened. It
// fails with a [MinDecryptionError].
func (e *Engine) SetMinDecryptionVersion(ctx context.Context, tenantID string, least int) (*tenant.Record, error) {
	return e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
		if err := next.Usable(); err != nil {
			return err
		}
		if current := next.Keys.Active().Number; least > current {
			return &MinDecryptionError{Current: current}
		}
		if least < next.MinDecryptionVersion && isDestroyed(next, least) {
			return &MinDecryptionError{Destroyed: least}
		}
		return e.SetMinimum(ctx, next, least)
	})
}

// isDestroyed reports whether the keys of a version are gone. One that the record has
// forgotten was destroyed long ago.
func isDestroyed(t *tenant.Record, version int) bool {
	v := t.Keys.Find(version)
	return v == nil || v.State == keyring.Destroyed
}

// SetMinimum changes the least version whose ciphertexts are opened, with its event.
func (e *Engine) SetMinimum(ctx context.Context, next *tenant.Record, least int) error {
	old := next.MinDecryptionVersion
	next.MinDecryptionVersion = least
	if old == least {
		return nil
	}
	h, err := e.ledger.Head(ctx, "")
	if err != nil {
		return err
	}
	return next.Carry(h, &evidence.MinimumChanged{Old: int64(old), New: int64(least)})
}
