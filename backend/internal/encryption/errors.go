// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"errors"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// Why a text is refused. The errors that wrap these name the versions concerned,
// and quote nothing of the text.
var (
	// ErrMalformed reports a text that is no ciphertext of this engine.
	ErrMalformed = keyring.ErrCiphertext
	// ErrDoesNotOpen reports everything that authentication refuses. It is one
	// error, so that nobody learns more than that by trying.
	ErrDoesNotOpen = errors.New("ciphertext does not open: it is damaged, not this tenant's, or has another associated_data")
	// ErrVersionDestroyed reports a version whose keys are gone.
	ErrVersionDestroyed = errors.New("which was destroyed")
	// ErrUnknownVersion reports a version that the tenant never had.
	ErrUnknownVersion = errors.New("which the tenant's key does not have")
	// ErrBelowMinimum reports a version below the tenant's min_decryption_version.
	ErrBelowMinimum = errors.New("below min_decryption_version")
)
