// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// maxSessions bounds the sessions in memory. The one that was used least recently
	// gives way.
	maxSessions = 10_000
	// maxSession is how long a session lives whose token does not end before.
	maxSession = 8 * time.Hour
)

// session is a person who has signed in.
type session struct {
	account Account
	// csrf goes with every form of the session.
	csrf  string
	until time.Time

	mu    sync.Mutex
	flash *said // what the next page says of the last action
}

// said is a sentence about an action, and the time that it ends with, if it does.
type said struct {
	Text  string
	Until *time.Time
}

// say leaves a sentence for the next page.
func (s *session) say(sentence *said) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flash = sentence
}

// said takes the sentence, nil if there is none.
func (s *session) said() *said {
	s.mu.Lock()
	defer s.mu.Unlock()
	sentence := s.flash
	s.flash = nil
	return sentence
}

// sessions are kept by the hash of their ID, so that a dump of them opens none.
type sessions struct {
	byID *lru.Cache[[sha256.Size]byte, *session]
	now  func() time.Time
}

func newSessions(now func() time.Time) (*sessions, error) {
	byID, err := lru.New[[sha256.Size]byte, *session](maxSessions)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	return &sessions{byID: byID, now: now}, nil
}

// begin returns the ID of a new session. A person who signs in never keeps an ID that
// the browser had before.
func (s *sessions) begin(a Account) (id string) {
	until := s.now().Add(maxSession)
	if e := a.Expires(); !e.IsZero() && e.Before(until) {
		until = e
	}
	id = rand.Text()
	s.byID.Add(sha256.Sum256([]byte(id)), &session{account: a, csrf: rand.Text(), until: until})
	return id
}

// find returns nil where there is no such session, or it has ended.
func (s *sessions) find(id string) *session {
	key := sha256.Sum256([]byte(id))
	found, ok := s.byID.Get(key)
	if !ok {
		return nil
	}
	if !s.now().Before(found.until) {
		s.byID.Remove(key)
		return nil
	}
	return found
}

func (s *sessions) end(id string) { s.byID.Remove(sha256.Sum256([]byte(id))) }
