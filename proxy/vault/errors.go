// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

var (
	// ErrUnreachable means that no complete answer came from Vault. A write may
	// have taken effect.
	ErrUnreachable = errors.New("vault is out of reach")
	// ErrTimeout means that Vault did not answer in time. A write may have
	// taken effect.
	ErrTimeout = errors.New("vault did not answer in time")
)

// Error is an answer of Vault that refuses a request.
type Error struct {
	Status   int
	Messages []string // cleaned for people
	// BareDenial is a 403 whose only text is "permission denied". OpenBao says that
	// of a token it does not know. Of one that its policies refuse it says, as Vault
	// does, "1 error occurred:" first. A few refusals of Vault are bare too, so that
	// who has a token known to be good takes it for one of those.
	BareDenial bool
	// Listed is whether the text came in a list ("1 error occurred:"), as what the engine
	// says does. What Vault says of itself, such as that it is sealed, does not.
	Listed     bool
	RotationID string // the running rotation that a 409 names
	RetryAfter string // header of a 429, verbatim
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("vault answered %d: %s", e.Status, e.Text())
}

// Text is Vault's message on one line.
func (e *Error) Text() string { return strings.Join(e.Messages, "; ") }

// InvalidToken tells a token that Vault does not know from one that its policies
// refuse: both are 403, and only the text says which. A token that names an unknown
// namespace is a 500 of the token check. One that is too large Vault does not even look up.
func (e *Error) InvalidToken() bool {
	if e.TokenTooLarge() {
		return true
	}
	switch e.Status {
	case http.StatusForbidden:
		return strings.Contains(e.Text(), "invalid token") || e.BareDenial
	case http.StatusInternalServerError:
		return strings.Contains(e.Text(), "look up namespace from the token")
	default:
		return false
	}
}

// TokenTooLarge reports whether Vault refused the token for its length. From version 2 on a
// listener takes 8 KiB (max_token_header_size): 431 beyond it, and 400 in 2.0.0.
func (e *Error) TokenTooLarge() bool {
	return e.Status == http.StatusRequestHeaderFieldsTooLarge ||
		e.Status == http.StatusBadRequest && strings.Contains(e.Text(), "token exceeds maximum allowed header size")
}

// NotMounted tells a missing or outdated engine from a missing tenant: both are 404.
func (e *Error) NotMounted() bool {
	return e.Status == http.StatusNotFound &&
		(strings.Contains(e.Text(), "no handler for route") || strings.Contains(e.Text(), "unsupported path"))
}

// NoLeader tells a cluster that has no active node at the moment, which is a 500.
func (e *Error) NoLeader() bool {
	return e.Status == http.StatusInternalServerError &&
		strings.Contains(e.Text(), "active cluster node not found")
}

// Unidentified tells a login whose JWT names nobody whom Vault can make an entity
// of: one with an empty subject, or with a name or email that is too long. Vault
// answers 500, and so it does each time.
func (e *Error) Unidentified() bool {
	return e.Status == http.StatusInternalServerError &&
		(strings.Contains(e.Text(), "invalid alias metadata") || strings.Contains(e.Text(), "missing name in alias"))
}

// KeyProviderDenied tells an owner's key provider that refuses, which ends by itself
// or by the owner's doing.
func (e *Error) KeyProviderDenied() bool { return e.Status == http.StatusFailedDependency }

// OfEngine tells an engine that cannot serve a request from a Vault that is sealed: both
// are 503.
func (e *Error) OfEngine() bool { return e.Status == http.StatusServiceUnavailable && e.Listed }

// Hint is what the engine says of a mount that it cannot serve before an operator has done
// something: its storage is held read-only, or in a newer format. It is empty for any
// other answer.
func (e *Error) Hint() string {
	for _, says := range []string{"must step down or restart", "a newer version of the plugin"} {
		if e.OfEngine() && strings.Contains(e.Text(), says) {
			return e.Text()
		}
	}
	return ""
}

// IsBareDenial reports whether err is a 403 that says neither that the token is not
// known nor that it is.
func IsBareDenial(err error) bool {
	var ve *Error
	return errors.As(err, &ve) && ve.BareDenial
}

// IsInvalidToken reports whether Vault refused a call because it does not know the token.
func IsInvalidToken(err error) bool {
	var ve *Error
	return errors.As(err, &ve) && ve.InvalidToken()
}

// Repeatable reports whether a call failed in a way that a second try may mend.
// A timeout is not one: the caller has waited long enough.
func Repeatable(err error) bool {
	if errors.Is(err, ErrTimeout) {
		return false
	}
	if errors.Is(err, ErrUnreachable) {
		return true
	}
	var ve *Error
	if !errors.As(err, &ve) || ve.InvalidToken() || ve.Hint() != "" {
		return false
	}
	switch ve.Status {
	case http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}
