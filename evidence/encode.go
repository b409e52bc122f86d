// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Errors of Encode and Decode.
var (
	// ErrInvalid reports an event that breaks a rule of the format.
	ErrInvalid = errors.New("invalid event")
	// ErrTooLarge reports an event of more than [MaxLeaf] bytes.
	ErrTooLarge = fmt.Errorf("%w: more than %d bytes", ErrInvalid, MaxLeaf)
	// ErrUnknownType reports a type of event that this version does not know.
	ErrUnknownType = errors.New("unknown type of event")
)

// A Subject is a name with its SHA-256, as in-toto wants one.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Encode returns the bytes of the entry, or [ErrInvalid].
func Encode(e *Event) ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	predicate, err := encodePredicate(e)
	if err != nil {
		return nil, err
	}
	leaf, err := encodeStatement(e, predicate)
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	if len(leaf) > MaxLeaf {
		return nil, ErrTooLarge
	}
	return leaf, nil
}

// encodeStatement puts the canonical predicate into its statement, whose members stand in
// the canonical order: an entry is encoded for every rotation, and a general encoder takes
// twice as long for it.
func encodeStatement(e *Event, predicate []byte) (leaf []byte, err error) {
	var failed error
	text := func(before, s string) {
		leaf = append(leaf, before...)
		if leaf, err = jsontext.AppendQuote(leaf, s); err != nil {
			failed = err
		}
	}
	leaf = make([]byte, 0, len(predicate)+512)
	text(`{"_type":`, StatementType)
	leaf = append(append(leaf, `,"predicate":`...), predicate...)
	text(`,"predicateType":`, PredicateType(e.Type()))
	separator := `,"subject":[`
	for _, s := range e.Subjects() {
		text(separator+`{"digest":{"sha256":`, s.Digest["sha256"])
		text(`},"name":`, s.Name)
		separator = "},"
	}
	return append(leaf, "}]}"...), failed
}

// encodePredicate joins what every predicate has and what its type adds, in canonical form.
func encodePredicate(e *Event) ([]byte, error) {
	head, err := json.Marshal(e.Head)
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	predicate := jsontext.Value(head)
	if !bytes.Equal(detail, []byte("{}")) {
		predicate[len(predicate)-1] = ','
		predicate = append(predicate, detail[1:]...)
	}
	if err := predicate.Canonicalize(); err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	return predicate, nil
}

// names returns the tenant, and the keys or what else the event is about.
func (e *Event) names() []string {
	names := e.Detail.subjects()
	if e.TenantID != "" {
		names = append([]string{e.TenantID}, names...)
	}
	return names
}

// Subjects returns what the event is about, as the statement names it.
func (e *Event) Subjects() []Subject {
	names := e.names()
	subjects := make([]Subject, 0, len(names))
	for _, name := range names {
		sum := sha256.Sum256([]byte(name))
		subjects = append(subjects, Subject{Name: name, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}})
	}
	return subjects
}

// Decode decodes the bytes of an entry. Bytes that Encode would not have made are
// [ErrInvalid]: unknown or repeated fields, another order, another spelling. An event
// of a later version may be [ErrUnknownType].
func Decode(leaf []byte) (*Event, error) {
	if len(leaf) > MaxLeaf {
		return nil, ErrTooLarge
	}
	var s statement
	if err := json.Unmarshal(leaf, &s); err != nil {
		return nil, fmt.Errorf("%w: not an in-toto statement", ErrInvalid)
	}
	eventType, isEvidence := strings.CutPrefix(s.PredicateType, predicatePrefix)
	eventType, isV1 := strings.CutSuffix(eventType, predicateSuffix)
	if s.Type != StatementType || !isEvidence {
		return nil, fmt.Errorf("%w: not a statement of this engine", ErrInvalid)
	}
	e := &Event{Detail: newDetail(eventType)}
	if !isV1 || e.Detail == nil {
		return nil, ErrUnknownType
	}
	if json.Unmarshal(s.Predicate, &e.Head) != nil || json.Unmarshal(s.Predicate, e.Detail) != nil {
		return nil, fmt.Errorf("%w: the predicate of %s has other fields", ErrInvalid, eventType)
	}
	again, err := Encode(e)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, leaf) {
		return nil, fmt.Errorf("%w: not in its canonical form", ErrInvalid)
	}
	return e, nil
}
