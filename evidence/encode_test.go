// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
)

func TestEveryTypeIsEncodedInOneSpelling(t *testing.T) {
	for _, event := range evidencetest.EveryType() {
		t.Run(event.Type(), func(t *testing.T) {
			leaf, err := evidence.Encode(event)
			require.NoError(t, err)
			decoded, err := evidence.Decode(leaf)
			require.NoError(t, err)
			again, err := evidence.Encode(decoded)
			require.NoError(t, err)
			require.Equal(t, string(leaf), string(again))
			require.Equal(t, event.Detail, decoded.Detail)
			require.Equal(t, event.Head, decoded.Head)

			var s struct {
				Type          string                     `json:"_type"`
				Subject       []evidence.Subject         `json:"subject"`
				PredicateType string                     `json:"predicateType"`
				Predicate     map[string]json.RawMessage `json:"predicate"`
			}
			require.NoError(t, json.Unmarshal(leaf, &s))
			require.Equal(t, "https://in-toto.io/Statement/v1", s.Type)
			require.Equal(t, "https://vault-plugin-dek/evidence/"+event.Type()+"/v1", s.PredicateType)
			require.NotEmpty(t, s.Subject)
			for _, field := range []string{
				"event_id", "seq", "previous", "time", "actor", "request_id", "trigger", "reason",
			} {
				require.Contains(t, s.Predicate, field)
			}
		})
	}
}

func TestEntryIsTheSameEveryTime(t *testing.T) {
	event := evidencetest.EveryType()[6]
	first, err := evidence.Encode(event)
	require.NoError(t, err)
	for range 20 {
		again, err := evidence.Encode(event)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
}

func TestSubjectDigestIsOfTheName(t *testing.T) {
	event := &evidence.Event{Head: evidencetest.Head(), Detail: &evidence.TenantRestored{}}
	event.TenantID = "abc"
	require.Equal(t, []evidence.Subject{{
		Name:   "abc",
		Digest: map[string]string{"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	}}, event.Subjects())
}

func TestDecodeRefusesOtherSpellings(t *testing.T) {
	event := &evidence.Event{Head: evidencetest.Head(), Detail: &evidence.KeyDestroyed{
		Version: 2, KeyID: "dek-1", Which: evidence.WhichPage, Why: evidence.WhyRetention, PagesScanned: 4,
	}}
	leaf, err := evidence.Encode(event)
	require.NoError(t, err)
	text := string(leaf)
	replace := func(old, with string) string {
		require.Contains(t, text, old)
		return strings.Replace(text, old, with, 1)
	}
	for name, other := range map[string]string{
		"empty":              "",
		"null":               "null",
		"list":               "[]",
		"trailing space":     text + " ",
		"leading space":      " " + text,
		"two of it":          text + text,
		"another order":      replace(`{"_type":"https://in-toto.io/Statement/v1",`, "{") + "",
		"unknown field":      replace(`"actor":`, `"abc":1,"actor":`),
		"unknown at the top": replace(`{"_type"`, `{"A":1,"_type"`),
		"repeated field":     replace(`"pages_left":0`, `"pages_left":0,"pages_left":0`),
		"other case":         replace(`"pages_left"`, `"Pages_left"`),
		"missing field":      replace(`"pages_left":0,`, ""),
		"negative":           replace(`"pages_left":0`, `"pages_left":-1`),
		"fraction":           replace(`"pages_left":0`, `"pages_left":0.5`),
		"exponent":           replace(`"pages_scanned":4`, `"pages_scanned":4e0`),
		"2^53":               replace(`"pages_scanned":4`, `"pages_scanned":9007199254740992`),
		"text for a number":  replace(`"pages_scanned":4`, `"pages_scanned":"4"`),
		"null for a number":  replace(`"pages_scanned":4`, `"pages_scanned":null`),
		"escape":             replace(`"dek-1"`, `"\u0064ek-1"`),
		"not UTF-8":          replace(`"dek-1"`, "\"dek-\xff\""),
		"other digest":       replace(`"digest":{"sha256":"`, `"digest":{"sha256":"0`),
		"other zone":         replace(`Z","trigger"`, `+00:00","trigger"`),
		"unknown why":        replace(`"why":"retention"`, `"why":"boredom"`),
		"no tenant":          replace(`"tenant_id":"`, `"tenant_id":"","x":"`),
		"another statement":  replace("in-toto.io/Statement/v1", "in-toto.io/Statement/v2"),
		"too large":          text + strings.Repeat(" ", evidence.MaxLeaf),
	} {
		_, err := evidence.Decode([]byte(other))
		require.ErrorIs(t, err, evidence.ErrInvalid, name)
	}
	for name, other := range map[string]string{
		"type":    replace("/key-destroyed/v1", "/key-lost/v1"),
		"version": replace("/key-destroyed/v1", "/key-destroyed/v2"),
	} {
		_, err := evidence.Decode([]byte(other))
		require.ErrorIs(t, err, evidence.ErrUnknownType, name)
	}
}

func TestEncodeRefuses(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	valid := func() *evidence.Event {
		return &evidence.Event{Head: evidencetest.Head(), Detail: &evidence.TenantDeletionScheduled{DeleteAfter: at}}
	}
	_, err := evidence.Encode(valid())
	require.NoError(t, err)
	negative := int64(-1)
	for name, spoil := range map[string]func(*evidence.Event){
		"no detail":         func(e *evidence.Event) { e.Detail = nil },
		"nil detail":        func(e *evidence.Event) { e.Detail = (*evidence.KeyDestroyed)(nil) },
		"no ID":             func(e *evidence.Event) { e.EventID = "" },
		"seq 0":             func(e *evidence.Event) { e.Seq = 0 },
		"large seq":         func(e *evidence.Event) { e.Seq = 1 << 53 },
		"negative previous": func(e *evidence.Event) { e.Previous = &negative },
		"no time":           func(e *evidence.Event) { e.Time = time.Time{} },
		"local time":        func(e *evidence.Event) { e.Time = at.In(time.FixedZone("", 3600)) },
		"no incarnation":    func(e *evidence.Event) { e.Incarnation = "" },
		"no tenant":         func(e *evidence.Event) { e.TenantID = "" },
		"no actor":          func(e *evidence.Event) { e.Actor = "" },
		"other trigger":     func(e *evidence.Event) { e.Trigger = "by hand" },
		"not UTF-8":         func(e *evidence.Event) { e.RequestID = "a\xff" },
		"not UTF-8 in a map": func(e *evidence.Event) {
			e.Detail = &evidence.TenantShredded{Items: evidence.Counts{"a\xff": 1}}
		},
		"negative in a map": func(e *evidence.Event) {
			e.Detail = &evidence.TenantShredded{Items: evidence.Counts{"secrets": -1}}
		},
		"no key": func(e *evidence.Event) { e.Detail = &evidence.TenantCreated{Version: 1} },
		"large":  func(e *evidence.Event) { e.RequestID = strings.Repeat("x", evidence.MaxLeaf) },
		"unknown which": func(e *evidence.Event) {
			e.Detail = &evidence.KeyDestroyed{KeyID: "dek-1", Which: "all", Why: evidence.WhyAsked}
		},
	} {
		e := valid()
		spoil(e)
		_, err := evidence.Encode(e)
		require.ErrorIs(t, err, evidence.ErrInvalid, name)
	}
}

func TestLargestEntryFits(t *testing.T) {
	e := &evidence.Event{Head: evidencetest.Head(), Detail: &evidence.TenantRestored{}}
	e.RequestID = ""
	leaf, err := evidence.Encode(e)
	require.NoError(t, err)
	e.RequestID = strings.Repeat("x", evidence.MaxLeaf-len(leaf))
	leaf, err = evidence.Encode(e)
	require.NoError(t, err)
	require.Len(t, leaf, evidence.MaxLeaf)
	e.RequestID += "x"
	_, err = evidence.Encode(e)
	require.ErrorIs(t, err, evidence.ErrTooLarge)
}

func TestEventIDIsOfWhatDecided(t *testing.T) {
	require.Equal(t, evidence.EventID("a", "b"), evidence.EventID("a", "b"))
	seen := map[string]bool{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a", "b"}, {"ab"}, {"ab", ""}, {"", "ab"}, {"b", "a"}} {
		id := evidence.EventID(parts...)
		require.False(t, seen[id], parts)
		seen[id] = true
	}
}

func TestReasonIsHidden(t *testing.T) {
	salt := bytes.Repeat([]byte{1}, evidence.SaltSize)
	hash, err := evidence.HashReason(salt, "an incident")
	require.NoError(t, err)
	require.Len(t, hash, 64)
	other, err := evidence.HashReason(bytes.Repeat([]byte{2}, evidence.SaltSize), "an incident")
	require.NoError(t, err)
	require.NotEqual(t, hash, other)
	none, err := evidence.HashReason(nil, "")
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = evidence.HashReason(salt, strings.Repeat("x", evidence.MaxReason))
	require.NoError(t, err)
	_, err = evidence.HashReason(salt, strings.Repeat("x", evidence.MaxReason+1))
	require.ErrorIs(t, err, evidence.ErrReasonTooLong)
	_, err = evidence.HashReason(salt[1:], "x")
	require.Error(t, err)
}

func TestOrigin(t *testing.T) {
	const mount = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	id, n, err := evidence.ParseOrigin(evidence.Origin(mount, 12))
	require.NoError(t, err)
	require.Equal(t, mount, id)
	require.EqualValues(t, 12, n)
	for _, other := range []string{
		"", "vault-plugin-dek/", "vault-plugin-dek/" + mount, "vault-plugin-dek/" + mount + "/0",
		"vault-plugin-dek/" + mount + "/01", "vault-plugin-dek/" + mount + "/1/", "other/" + mount + "/1",
		"vault-plugin-dek/" + strings.ToUpper(mount) + "/1", fmt.Sprintf("vault-plugin-dek/%s/-1", mount),
	} {
		_, _, err := evidence.ParseOrigin(other)
		require.ErrorIs(t, err, evidence.ErrOrigin, other)
	}
}

// What decodes is encoded as the same bytes.
func FuzzDecode(f *testing.F) {
	for _, event := range evidencetest.EveryType() {
		leaf, err := evidence.Encode(event)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(leaf)
	}
	f.Fuzz(func(t *testing.T, leaf []byte) {
		event, err := evidence.Decode(leaf)
		if err != nil {
			return
		}
		again, err := evidence.Encode(event)
		if err != nil || !bytes.Equal(again, leaf) {
			t.Fatalf("%q decodes, and is encoded as %q: %v", leaf, again, err)
		}
	})
}
