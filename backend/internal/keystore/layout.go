// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

const (
	kekCurrent  = "kek/current"
	kekPrefix   = "kek/keys/"
	ownPrefix   = "tenantkeks/"
	keyPrefix   = "keys/"
	sealsPrefix = "seals/"
)

// SealWrapped lists the entries that hold keys, those ending in a slash as
// prefixes: Vault Enterprise wraps them with its seal on top of the barrier.
func SealWrapped() []string {
	return []string{kekPrefix, ownPrefix, keyPrefix}
}

func keysOf(incarnation string) string { return keyPrefix + incarnation + "/" }

func wrappedKeyKey(incarnation, keyID string) string { return keysOf(incarnation) + keyID }

func sealsOf(incarnation string) string { return sealsPrefix + incarnation + "/" }

// sealsKey is the same for both keys of a version.
func sealsKey(incarnation, keyID string) string { return sealsOf(incarnation) + versionKeyID(keyID) }
