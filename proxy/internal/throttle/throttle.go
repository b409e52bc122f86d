// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package throttle bounds how often something may fail for one key, such as logins
// of one address or of one account.
//
// Only failures count: whoever succeeds is never slowed down for it. Whether an
// attempt fails is known at its end only, so no more attempts run at once than may
// still fail; the others wait for an outcome. Thus many attempts at once get no
// further than many in a row.
package throttle

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Limiter counts failures by key. It is safe for concurrent use, and keeps a bounded
// number of keys: those that failed longest ago are forgotten first.
type Limiter struct {
	perMinute int
	now       func() time.Time

	mu   sync.Mutex
	keys *lru.Cache[string, *state]
}

// state is one key's. It is guarded by the Limiter's mutex.
type state struct {
	failures *rate.Limiter
	running  int
	waiting  []chan struct{}
}

// New returns a Limiter that allows so many failures a minute for each key, all of
// them at once at the most, and keeps size keys.
func New(perMinute, size int, now func() time.Time) (*Limiter, error) {
	keys, err := lru.New[string, *state](size)
	if err != nil {
		return nil, fmt.Errorf("throttle: %w", err)
	}
	return &Limiter{perMinute: perMinute, now: now, keys: keys}, nil
}

// Refused is the error of an attempt that may not be made before a while.
type Refused struct{ After time.Duration }

// Error implements error.
func (r *Refused) Error() string {
	return "too many failures: the next attempt is in " + r.After.String()
}

// Seconds is After in whole seconds, at least 1, as a Retry-After header has it.
func (r *Refused) Seconds() int { return max(1, int(math.Ceil(r.After.Seconds()))) }

// Begin begins an attempt, and waits while as many run as may fail. The caller must
// call done once, with the attempt's outcome. Begin returns *Refused where no failure
// is left, and the context's error where that ends first.
func (l *Limiter) Begin(ctx context.Context, key string) (done func(failed bool), err error) {
	for {
		s, turn, err := l.enter(key)
		if err != nil {
			return nil, err
		}
		if turn == nil {
			return func(failed bool) { l.leave(key, s, failed) }, nil
		}
		select {
		case <-turn:
		case <-ctx.Done():
			l.abandon(s, turn)
			return nil, ctx.Err()
		}
	}
}

// enter takes a place for the key, or returns a channel that tells when to try again.
func (l *Limiter) enter(key string) (*state, chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.keys.Get(key)
	if !ok {
		s = &state{failures: rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)}
		l.keys.Add(key, s)
	}
	now := l.now()
	left := s.failures.TokensAt(now)
	switch {
	case left < 1:
		wait := (1 - left) / float64(s.failures.Limit())
		return nil, nil, &Refused{After: time.Duration(wait * float64(time.Second))}
	case s.running < int(left):
		s.running++
		return s, nil, nil
	default:
		turn := make(chan struct{})
		s.waiting = append(s.waiting, turn)
		return s, turn, nil
	}
}

// leave gives a place back. After a success one of those who wait may go on, after a
// failure each must see whether a failure is left.
func (l *Limiter) leave(key string, s *state, failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.running--
	now := l.now()
	wake := min(1, len(s.waiting))
	if failed {
		s.failures.AllowN(now, 1)
		wake = len(s.waiting)
	}
	for _, turn := range s.waiting[:wake] {
		close(turn)
	}
	s.waiting = s.waiting[wake:]
	if s.running == 0 && len(s.waiting) == 0 && wake == 0 && s.failures.TokensAt(now) >= float64(l.perMinute) {
		if current, ok := l.keys.Peek(key); ok && current == s {
			l.keys.Remove(key)
		}
	}
}

// abandon takes back a wait, and hands on the turn if it has come meanwhile.
func (l *Limiter) abandon(s *state, turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, waiting := range s.waiting {
		if waiting == turn {
			s.waiting = append(s.waiting[:i:i], s.waiting[i+1:]...)
			return
		}
	}
	if len(s.waiting) > 0 {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// Len returns how many keys are kept.
func (l *Limiter) Len() int { return l.keys.Len() }
