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
	// error, so that trying reveals no more than that.
	ErrDoesNotOpen = errors.New("ciphertext does not open: it is damaged, not this tenant's, or has another associated_data")
	// ErrVersionDestroyed reports a version whose keys are gone.
	ErrVersionDestroyed = errors.New("which was destroyed")
	// ErrUnknownVersion reports a version that the tenant never had.
	ErrUnknownVersion = errors.New("which the tenant's key does not have")
	// ErrBelowMinimum reports a version below the tenant's min_decryption_version.
	ErrBelowMinimum = errors.New("below min_decryption_version")
	// ErrFirstLine reports the first line of a file, which holds no more than the
	// file's data key.
	ErrFirstLine = errors.New("ciphertext is the first line of a file: decrypt dek:v<version>:<key> of it, with the associated_data " + keyring.FileKeyAD)
	// ErrFirstLineAD reports associated data of the first line of a file: those of
	// the file are bound to its content, and could not be checked.
	ErrFirstLineAD = errors.New("associated_data must be left out for the first line of a file")
	// ErrReserved reports a plaintext that would pass for a data key.
	ErrReserved = errors.New("associated_data is reserved for the keys that datakey makes")
	// ErrTooLong reports an envelope that Vault would not take in again.
	ErrTooLong = errors.New("ciphertext would have over 1 MiB, which Vault refuses: decrypt it, and seal it in parts")
)

// ErrDataKeySize reports a data key, asked for with reserved associated data, of
// another size than those have.
var ErrDataKeySize = errors.New("bits must be 256 with this associated_data")

// refusals are the errors by which one text fails alone.
var refusals = []error{
	ErrMalformed, ErrDoesNotOpen, ErrVersionDestroyed, ErrUnknownVersion, ErrBelowMinimum,
	ErrFirstLine, ErrFirstLineAD, ErrReserved, ErrTooLong,
}

// Refused reports whether err refuses one text, and is no fault.
func Refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}
