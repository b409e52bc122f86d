// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// repeat says after which failures a call is made again.
type repeat int

const (
	// always is for a call that changes nothing, or that changes nothing more
	// when it is made twice.
	always repeat = iota
	// ifRefused is for a call whose repetition could undo what somebody else did
	// after it took effect: only if it certainly had none.
	ifRefused
)

const (
	firstPause = 100 * time.Millisecond
	// longestPause bounds a pause that the server asks for, too: a caller that is
	// asked to wait longer gets the error and decides.
	longestPause = 10 * time.Second
)

// mayRepeat reports whether a call that failed with err may be made again.
func mayRepeat(r repeat, err error) bool {
	if r != always && OutcomeUnknown(err) {
		return false
	}
	var answered *Error
	if errors.As(err, &answered) {
		return answered.passes() && answered.RetryAfter <= longestPause
	}
	var failed *TransportError
	return errors.As(err, &failed) && !failed.lasts()
}

// passes reports whether the same call may succeed later.
func (e *Error) passes() bool {
	switch e.Status {
	case http.StatusPreconditionFailed, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// lasts reports whether the next attempt would fail in the same way.
func (e *TransportError) lasts() bool {
	var certificate *tls.CertificateVerificationError
	return errors.Is(e.Err, context.Canceled) || errors.As(e.Err, &certificate)
}

// unsent reports whether no byte of the request can have arrived.
func (e *TransportError) unsent() bool {
	var op *net.OpError
	return errors.As(e.Err, &op) && op.Op == "dial"
}

// OutcomeUnknown reports whether a call that failed with err may have taken
// effect all the same: the connection broke, or the answer was a fault. Before
// it writes an item again a program then reads it, or writes with the revision
// that it read before, so that a second effect is refused.
func OutcomeUnknown(err error) bool {
	var answered *Error
	if errors.As(err, &answered) {
		// A 503 of Vault's own is a refusal; one of a proxy before it may stand
		// for an answer that was lost.
		refused := answered.Status < 500 || answered.Status == http.StatusServiceUnavailable && answered.fromVault
		return !refused
	}
	var failed *TransportError
	return errors.As(err, &failed) && !failed.unsent()
}

// backoff is how long to wait before the next attempt: what the server asks for,
// or a random part of a time that doubles.
func backoff(attempt int, err error) time.Duration {
	var answered *Error
	if errors.As(err, &answered) && answered.RetryAfter > 0 {
		return answered.RetryAfter
	}
	longest := min(firstPause<<min(attempt, 10), longestPause)
	return longest/2 + rand.N(longest/2) // #nosec G404 -- spreads retries; nothing secret
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 1<<20 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
