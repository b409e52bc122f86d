// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package throttle

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func newLimiter(t *testing.T, perMinute int) *Limiter {
	t.Helper()
	l, err := New(perMinute, 10, time.Now)
	require.NoError(t, err)
	return l
}

// advance lets time go by in the bubble of a test.
func advance(d time.Duration) { <-time.After(d) }

// try makes an attempt with the outcome given.
func try(t *testing.T, l *Limiter, key string, failed bool) error {
	t.Helper()
	done, err := l.Begin(t.Context(), key)
	if err == nil {
		done(failed)
	}
	return err
}

func TestFailuresOfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 6)
		for range 6 {
			require.NoError(t, try(t, l, "a", true))
		}
		var refused *Refused
		require.ErrorAs(t, try(t, l, "a", false), &refused, "a right one too")
		require.Equal(t, 10, refused.Seconds())
		require.NoError(t, try(t, l, "b", true), "another key")

		advance(9 * time.Second)
		require.ErrorAs(t, try(t, l, "a", false), &refused)
		require.Equal(t, 1, refused.Seconds())
		advance(time.Second)
		require.NoError(t, try(t, l, "a", true))
		require.ErrorAs(t, try(t, l, "a", true), &refused)
		advance(time.Minute)
		for range 6 {
			require.NoError(t, try(t, l, "a", true))
		}
	})
}

func TestSuccessesAreFree(t *testing.T) {
	l := newLimiter(t, 2)
	for range 1000 {
		require.NoError(t, try(t, l, "a", false))
	}
	require.Zero(t, l.Len(), "and leave nothing behind")
}

// TestManyAtOnce: attempts that run together get no further than one by one.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 5)
		var failed, refused, running, most atomic.Int64
		var all sync.WaitGroup
		for range 150 {
			all.Go(func() {
				done, err := l.Begin(t.Context(), "a")
				if err != nil {
					refused.Add(1)
					return
				}
				most.Store(max(most.Load(), running.Add(1)))
				advance(time.Millisecond)
				running.Add(-1)
				failed.Add(1)
				done(true)
			})
		}
		all.Wait()
		require.EqualValues(t, 5, failed.Load())
		require.EqualValues(t, 145, refused.Load())
		require.LessOrEqual(t, most.Load(), int64(5))
	})
}

func TestManyAtOnceThatSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 5)
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				done, err := l.Begin(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				advance(time.Millisecond)
				done(false)
			})
		}
		all.Wait()
		require.Zero(t, l.Len())
	})
}

func TestWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, 1)
		done, err := l.Begin(t.Context(), "a")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.Begin(ctx, "a")
		require.True(t, errors.Is(err, context.DeadlineExceeded))

		next := make(chan error, 1)
		go func() { next <- try(t, l, "a", false) }()
		synctest.Wait()
		done(false)
		require.NoError(t, <-next, "a place is not lost with one who has left")
	})
}

func TestKeysAreBounded(t *testing.T) {
	l := newLimiter(t, 2)
	for i := range 1000 {
		require.NoError(t, try(t, l, strconv.Itoa(i), true))
	}
	require.Equal(t, 10, l.Len())
	_, err := New(1, 0, time.Now)
	require.Error(t, err)
}
