// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What the engine answers, for [errors.Is]. [Error] has the details.
var (
	ErrInvalid        = errors.New("malformed request")            // 400
	ErrForbidden      = errors.New("refused by policy")            // 403
	ErrNotFound       = errors.New("not found")                    // 404
	ErrConflict       = errors.New("conflict")                     // 409
	ErrGone           = errors.New("its key version is destroyed") // 410
	ErrTooLarge       = errors.New("too large")                    // 413
	ErrProviderDenied = errors.New("the key provider denies")      // 424
	ErrTooMany        = errors.New("too much at once")             // 429
	ErrUnavailable    = errors.New("unavailable")                  // 503
)

// What this package finds by itself.
var (
	// ErrTenantID is a tenant ID that is no UUID in canonical lower case.
	ErrTenantID = errors.New("tenant_id must be a UUID in lower case")
	// ErrName is a name or kind of an item that the engine would refuse. A path
	// made of it could be another item's.
	ErrName = errors.New("an item has a kind of credentials, apiKeys or secrets, and a name of 1 to 256 characters of A-Z a-z 0-9 . _ @ : - with / between parts, none of them empty or made of one or two dots")
	// ErrRotationID is a rotation ID that is not rot- and a UUID.
	ErrRotationID = errors.New("rotation_id must be rot- and a UUID")
	// ErrPerson is a person of the evidence log that no path could name.
	ErrPerson = errors.New("a person must be the actor of an entry, or an ID without a slash")
	// ErrEvidenceFile is what is no file of tlog-tiles.
	ErrEvidenceFile = errors.New("a file of the evidence log is checkpoint, or a tile such as tile/0/000 or tile/entries/000.p/17")
	// ErrMalformed is a text that is no ciphertext of the engine, nor an
	// envelope, nor the first line of a file.
	ErrMalformed = errors.New("ciphertext is malformed")
	// ErrDecrypt is a ciphertext that does not open: it was changed, it is
	// another tenant's, or its associated data is another. One error for all, so
	// that nobody learns more by trying.
	ErrDecrypt = errors.New("ciphertext does not open")
	// ErrNoTenant is a tenant that is not there, or is being deleted. It comes with
	// [ErrNotFound].
	ErrNoTenant = errors.New("there is no such tenant")
	// ErrClosed is an [AEAD] that was closed.
	ErrClosed = errors.New("client: AEAD is closed")
	// ErrLease is a data key whose lease was over before it could be used.
	ErrLease = errors.New("data keys arrive after their lease has ended: Vault is too slow, or data_key_lease too short")
)

var statusErrors = map[int]error{
	http.StatusBadRequest: ErrInvalid, http.StatusForbidden: ErrForbidden, http.StatusNotFound: ErrNotFound,
	http.StatusConflict: ErrConflict, http.StatusGone: ErrGone, http.StatusRequestEntityTooLarge: ErrTooLarge,
	http.StatusFailedDependency: ErrProviderDenied, http.StatusTooManyRequests: ErrTooMany,
	http.StatusServiceUnavailable: ErrUnavailable,
}

// Error is an answer of Vault's that is no success.
type Error struct {
	Op         string        // what was asked for, such as "rotate key"
	Status     int           // HTTP's
	Message    string        // Vault's, in one line
	RetryAfter time.Duration // when to try again; 0: the answer does not say

	raw       json.RawMessage
	fromVault bool // its body is one of Vault's errors
	silent    bool // Vault's, and with no message: an empty list
	entry     bool // of one entry of a batch, and not of the request
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %d: %s", e.Op, e.Status, e.Message) }

// Is reports whether target is the sentinel of the status.
func (e *Error) Is(target error) bool {
	if target == ErrNoTenant {
		return e.Status == http.StatusNotFound && strings.HasPrefix(e.Message, "tenant ")
	}
	return target != nil && statusErrors[e.Status] == target
}

// Data decodes what the answer has besides its message into out, such as the
// rotation_id of a conflict. Without any it does nothing.
func (e *Error) Data(out any) error {
	if len(e.raw) == 0 {
		return nil
	}
	return json.Unmarshal(e.raw, out)
}

// RotationID is the unfinished rotation that a conflict names, empty if none.
func (e *Error) RotationID() string {
	var data struct {
		RotationID string `json:"rotation_id"`
	}
	if e.Data(&data) != nil {
		return ""
	}
	return data.RotationID
}

// DoesNotOpen reports whether err judges the text that was to be opened: it is
// malformed, was changed, is another tenant's, or its version is destroyed. The
// same text will not open later either, unlike after a failure to ask.
func DoesNotOpen(err error) bool {
	var answered *Error
	return errors.Is(err, ErrMalformed) || errors.Is(err, ErrDecrypt) || errors.As(err, &answered) && answered.entry
}

// TransportError is a call that got no answer.
type TransportError struct {
	Op  string
	Err error // without the URL, which has an item's name in it
}

func (e *TransportError) Error() string { return e.Op + ": no answer from Vault: " + e.Err.Error() }

func (e *TransportError) Unwrap() error { return e.Err }
