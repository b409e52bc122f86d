// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// DerivedPageKey is HKDF-SHA-256 (RFC 5869) as docs/formats.md has it, for the active
// version of a tenant.
func DerivedPageKey(imported []byte, rec *tenant.Record) []byte {
	v := rec.Keys.Active()
	extract := hmac.New(sha256.New, make([]byte, sha256.Size))
	extract.Write(imported)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write(keyringtest.AssociatedData("vault-plugin-dek/imported-page-key/v1", rec.ID, rec.Incarnation, v.KeyID, string(v.KeyType)))
	expand.Write([]byte{1})
	return expand.Sum(nil)
}
