// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package actor

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// keepRequests bounds the requests that are remembered to recognize a repeated one.
const keepRequests = 16

// RequestDigest returns what records keep of a request's ID, or of its idempotency key:
// half of a SHA-256, in hex. So a record does not grow with what callers send. It is
// empty for an empty ID, which recognizes nothing.
func RequestDigest(id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

// NoteRequest adds the digest of a request to those of the latest ones; isNew is false
// if it is among them. An empty digest is always new. The slice that is passed stays as
// it is.
func NoteRequest(latest []string, digest string) (noted []string, isNew bool) {
	if digest == "" {
		return latest, true
	}
	if slices.Contains(latest, digest) {
		return latest, false
	}
	noted = append(slices.Clone(latest), digest)
	return noted[max(0, len(noted)-keepRequests):], true
}
