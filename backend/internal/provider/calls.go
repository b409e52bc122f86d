// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kms"
)

// The places for calls to one provider at a time. Background work has its own, so that
// no request waits behind it.
const (
	requestCalls    = 32
	backgroundCalls = 4
)

// connection is a provider as it was set up last.
type connection struct {
	config  Config
	wrapper kms.Wrapper
	places  [2]chan struct{} // for requests, and for background work
}

// Origin says who needs a call.
type Origin int

// The origins of calls.
const (
	Request Origin = iota
	Background
)

var places = [...]int{Request: requestCalls, Background: backgroundCalls}

// The states of a provider, after the call that ended last.
const (
	StateOK          = "ok"
	StateUnavailable = "unavailable"
	StateDenied      = "denied"
)

// State says what the latest calls to a provider came to. The zero value: there was none
// since the engine started.
type State struct {
	State     string
	Since     time.Time // when that began
	CheckedAt time.Time
	LastError string // what the provider said the last time that a call failed
}

// Current returns the state, and takes a provider that nothing has needed for one that
// works: its last write did.
func (s State) Current() string {
	if s.State == "" {
		return StateOK
	}
	return s.State
}

// State returns what the latest calls to a provider came to.
func (s *Store) State(name string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[name]
}

// States returns the state of each provider that was called since the engine started.
func (s *Store) States() map[string]State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.states)
}

func (s *Store) note(name string, failed *Error) {
	state, said := StateOK, ""
	if failed != nil {
		state, said = StateUnavailable, failed.Word
		if errors.Is(failed.Kind, ErrDenied) {
			state = StateDenied
		}
	}
	if is, changed := s.setState(name, state, said); changed {
		s.in.Changed(name, is)
	}
}

func (s *Store) setState(name, state, said string) (is State, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is = s.states[name]
	now := s.now()
	if changed = is.State != state; changed {
		is.State, is.Since = state, now
	}
	if said != "" {
		is.LastError = said
	}
	is.CheckedAt = now
	s.states[name] = is
	return is, changed
}

// Wrap has a provider wrap a KEK, and opens the result once, so that no KEK is stored
// that does not open. It returns how the provider was set up. It fails with [ErrNotFound]
// or an [Error].
func (s *Store) Wrap(ctx context.Context, name string, p Place, key []byte) (wrapped []byte, c Config, err error) {
	c, err = s.call(ctx, name, Request, wrapAndOpen(p, key, &wrapped)...)
	return wrapped, c, err
}

// Unwrap has a provider open what it wrapped for a place. The caller clears the key. It
// fails with [ErrNotFound] or an [Error].
func (s *Store) Unwrap(ctx context.Context, name string, from Origin, p Place, wrapped []byte, check func(key []byte) bool) (key []byte, c Config, err error) {
	var known *denial
	defer func() { s.noteDenial(name, p.KEKID, known, err) }()
	c, known, err = s.callOf(ctx, name, from, func(ctx context.Context, w kms.Wrapper) error {
		opened, err := unwrapWith(ctx, w, p, wrapped)
		if err == nil && !check(opened) {
			clear(opened)
			return errAnswer
		}
		key = opened
		return err
	})
	return key, c, err
}

// Probe has a provider wrap and unwrap a random key, and open what it has sealed, and notes
// the state.
func (s *Store) Probe(ctx context.Context, name string, sealed ...Sealed) error {
	steps, err := tries(sealed)
	if err != nil {
		return err
	}
	_, err = s.call(ctx, name, Request, steps...)
	return err
}

// tries are the steps by which a provider wraps and unwraps a random key, and opens what it
// has sealed.
func tries(sealed []Sealed) ([]step, error) {
	steps, err := probe()
	for _, one := range sealed {
		steps = append(steps, one.tryOpen)
	}
	return steps, err
}

// Tried notes that a provider has just been found to work, by [Store.Try].
func (s *Store) Tried(name string) { s.setState(name, StateOK, "") }

// Sealed is a KEK that a provider has wrapped.
type Sealed struct {
	Place
	Wrapped []byte
	Check   func(key []byte) bool // whether key is the KEK
}

// tryOpen fails if a provider does not open the KEK.
func (s Sealed) tryOpen(ctx context.Context, w kms.Wrapper) error {
	key, err := unwrapWith(ctx, w, s.Place, s.Wrapped)
	defer clear(key)
	if err == nil && !s.Check(key) {
		return errAnswer
	}
	return err
}

// Try fails with an [Error] if a provider that is set up as c does not wrap and unwrap a
// probe, or does not open what is sealed.
func (s *Store) Try(ctx context.Context, name string, c Config, sealed []Sealed) error {
	w, err := kms.Open(c.key(), s.in.kms())
	if err != nil {
		return err
	}
	defer w.Close()
	steps, err := tries(sealed)
	if err == nil {
		err = within(ctx, c, w, steps)
	}
	if err != nil {
		return failure(name, err)
	}
	return nil
}

// step is a part of a call that has the timeout for itself.
type step func(context.Context, kms.Wrapper) error

// within makes the steps of a call, each of which ends with the timeout.
func within(ctx context.Context, c Config, w kms.Wrapper, steps []step) error {
	for _, one := range steps {
		if err := one.within(ctx, c.Timeout, w); err != nil {
			return err
		}
	}
	return nil
}

func (s step) within(ctx context.Context, timeout time.Duration, w kms.Wrapper) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s(ctx, w)
}

// call makes a call to a provider, and notes what came of it. A call that finds no place
// fails at once, and says nothing of the provider.
func (s *Store) call(ctx context.Context, name string, from Origin, steps ...step) (Config, error) {
	c, _, err := s.callOf(ctx, name, from, steps...)
	return c, err
}

// callOf is call, and returns what the provider's entry says of denials.
func (s *Store) callOf(ctx context.Context, name string, from Origin, steps ...step) (Config, *denial, error) {
	e, err := s.existing(ctx, name)
	if err != nil {
		return Config{}, nil, err
	}
	c, err := s.connect(name, e.Config)
	if err != nil {
		return Config{}, e.Denial, err
	}
	select {
	case c.places[from] <- struct{}{}:
		defer func() { <-c.places[from] }()
	default:
		busy := &Error{name, ErrBusy, "too many calls to it are in flight"}
		s.count(name, busy, 0)
		return Config{}, e.Denial, busy
	}
	began := s.now()
	if err := within(ctx, c.config, c.wrapper, steps); err != nil {
		failed := failure(name, err)
		if context.Cause(ctx) == nil {
			s.count(name, failed, s.now().Sub(began))
			s.note(name, failed)
		}
		return Config{}, e.Denial, failed
	}
	s.count(name, nil, s.now().Sub(began))
	s.note(name, nil)
	return c.config, e.Denial, nil
}

// connect returns the connection to a provider that is set up so.
func (s *Store) connect(name string, config Config) (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.live[name]
	if was != nil && was.config.SameKey(config) {
		if was.config.sameTimes(config) {
			return was, nil
		}
		next := *was
		next.config = config
		s.live[name] = &next
		return &next, nil
	}
	w, err := kms.Open(config.key(), s.in.kms())
	if err != nil {
		return nil, failure(name, fmt.Errorf("it cannot be set up: %w", err))
	}
	next := &connection{config: config, wrapper: w}
	for origin, n := range places {
		next.places[origin] = make(chan struct{}, n)
	}
	if was != nil {
		was.wrapper.Close()
	}
	s.live[name] = next
	return next, nil
}

// Renew prolongs the credentials of the providers that are in use, as far as that is due.
func (s *Store) Renew(ctx context.Context) {
	s.mu.Lock()
	live := slices.Collect(maps.Values(s.live))
	s.mu.Unlock()
	for _, c := range live {
		_ = within(ctx, c.config, c.wrapper, []step{func(ctx context.Context, w kms.Wrapper) error {
			w.Renew(ctx)
			return nil
		}})
	}
}
