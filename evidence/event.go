// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"time"
)

// StatementType is the type of every entry's statement: an in-toto Statement v1. A
// predicate's type is its event's, between predicatePrefix and predicateSuffix.
const (
	StatementType   = "https://in-toto.io/Statement/v1"
	predicatePrefix = "https://vault-plugin-dek/evidence/"
	predicateSuffix = "/v1"
)

// Limits of an entry.
const (
	// MaxLeaf is the greatest number of bytes of an encoded event.
	MaxLeaf = 16384
	// MaxReason is the greatest number of bytes of a reason's text.
	MaxReason = 1024
	// MaxInteger is the greatest number in an event: RFC 8785 keeps integers exact
	// below 2^53.
	MaxInteger = 1<<53 - 1
)

// System is the actor of what the engine does by itself.
const System = "system"

// An Event is what one entry of the log says.
type Event struct {
	Head
	// Detail is what the type of the event adds, one of the pointers in this package.
	Detail Detail
}

// Head is what every predicate has.
type Head struct {
	// EventID is derived from what decided the event ([EventID]): the same decision
	// has the same ID, however often it is logged.
	EventID string `json:"event_id"`
	// Seq counts the events of an incarnation, or of the mount, from 1.
	Seq int64 `json:"seq"`
	// Previous is the index of the entry before, of the same incarnation or of the
	// mount, nil for the first in this log.
	Previous *int64 `json:"previous"`
	// Time is when the event was decided.
	Time time.Time `json:"time"`
	// TenantID and Incarnation are both set, or neither for an event of the mount.
	TenantID    string `json:"tenant_id,omitempty"`
	Incarnation string `json:"incarnation,omitempty"`
	// Actor is the random ID of a person, or [System].
	Actor string `json:"actor"`
	// RequestID is Vault's ID of the request, empty without one.
	RequestID string `json:"request_id"`
	// Trigger is manual, requested, scheduled, or empty.
	Trigger string `json:"trigger"`
	// Reason is what [HashReason] makes of the text, empty without one.
	Reason string `json:"reason"`
}

// A Detail is what a type of event adds to the predicate.
type Detail interface {
	// Type is the <type> of the predicate type.
	Type() string
	// subjects returns the names that the event is about beside its tenant: key IDs,
	// or what else it changed.
	subjects() []string
}

// PredicateType returns the URI of a type of event.
func PredicateType(eventType string) string {
	return predicatePrefix + eventType + predicateSuffix
}

// Type returns the type of the event, such as rotation-completed.
func (e *Event) Type() string { return e.Detail.Type() }

// A Position is where an event of a sequence is in a log.
type Position struct {
	// Log is the number of the log, Index the entry in it.
	Log   int64 `json:"log"`
	Index int64 `json:"index"`
	// Seq is the event's number in its sequence.
	Seq int64 `json:"seq"`
}
