// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// HangLimit is how long a call of the library may take until Config.Hung is called.
const HangLimit = 2 * time.Minute

// retryAfter is how long a failed attempt to reach the token answers further calls.
const retryAfter = time.Second

// Config says which token and which keys are used, and how.
type Config struct {
	// TokenLabel and TokenSerial name the token. One of them may be empty.
	TokenLabel, TokenSerial string
	// KeyLabel is that of the keys.
	KeyLabel string
	// KeyID is the ID of the key that encrypts, empty: the highest of the label.
	KeyID []byte
	// Sessions is how many calls are made at a time.
	Sessions int
	// PIN returns the user's PIN, for each login. What it returns is overwritten.
	PIN func() ([]byte, error)
	// Hung is called if a call does not return: a library cannot be told to stop.
	Hung func()
	Log  *slog.Logger
}

// Token uses the keys of a token. It connects when it is needed, and anew when the token was lost.
type Token struct {
	lib    Library
	config Config
	places chan struct{}

	// The library is used while mu is read-locked, and connected while it is locked.
	mu          sync.RWMutex
	conn        *connection // nil: there is none
	initialized bool
	closed      bool
	refused     *[32]byte // hash of the PIN that the token refused
	failure     error     // of the latest attempt to connect, which was at failedAt
	failedAt    time.Time
}

// New returns a Token that has not connected yet.
func New(lib Library, c Config) *Token {
	return &Token{lib: lib, config: c, places: make(chan struct{}, c.Sessions)}
}

// call has the library work in a session, in a goroutine of its own: the caller goes when
// its context ends, the call holds its place until it returns.
func call[T any](ctx context.Context, t *Token, f func(Session) (T, error)) (T, error) {
	type outcome struct {
		result T
		err    error
	}
	var none T
	select {
	case t.places <- struct{}{}:
	case <-ctx.Done():
		return none, unavailable("every session was in use until the timeout")
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-t.places }()
		defer time.AfterFunc(HangLimit, t.config.Hung).Stop()
		var o outcome
		o.err = t.twice(func(s Session) (err error) {
			o.result, err = f(s)
			return err
		})
		done <- o
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return none, unavailable("the token did not answer within the timeout")
	}
}

// twice calls f, and once more if the token was lost and is back.
func (t *Token) twice(f func(Session) error) error {
	var broken *connection
	for again := false; ; again = true {
		if err := t.connect(broken); err != nil {
			return err
		}
		used, err := t.use(f)
		if again || !errors.Is(err, errLost) {
			return err
		}
		broken = used
	}
}

// use calls f with a session. After an error the session is closed, since an operation may
// be unfinished in it.
func (t *Token) use(f func(Session) error) (*connection, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.conn == nil {
		return nil, errLost
	}
	s, err := t.conn.take(t.lib)
	if err != nil {
		return t.conn, err
	}
	if err = f(s); err == nil {
		t.conn.idle <- s
		return t.conn, nil
	}
	if !errors.Is(err, errLost) {
		err = t.confirm(t.conn, s, err)
	}
	_ = t.lib.CloseSession(s)
	return t.conn, err
}

// confirm returns what failed, if the session is logged in and the token is there: else it
// says nothing about the key.
func (t *Token) confirm(c *connection, s Session, failed error) error {
	in, err := t.lib.LoggedIn(s)
	if err == nil && in {
		in, err = t.isAt(c.slot)
	}
	if err != nil || !in {
		return fmt.Errorf("%w: %s", errLost, failed.Error()) // not wrapped: it is not said of the key
	}
	return failed
}

// Forget has the PIN that the token refused tried again, once.
func (t *Token) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused, t.failure = nil, nil
}

// Close ends the sessions and the library's work. It waits for the calls in flight, but not
// longer than the context.
func (t *Token) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.closed = true
		t.disconnect()
		t.finalize()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("a call of the library does not end")
	}
}
