// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever the number, each is called once, no more than the bound at a time, and all wait
// together: so as many take no longer than one.
func TestEachIsBounded(t *testing.T) {
	for _, n := range []int{0, 1, 2, readsInFlight, readsInFlight + 1, 5 * readsInFlight} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				now, most, called := 0, 0, map[int]int{}
				count := func(by int) {
					mu.Lock()
					defer mu.Unlock()
					now += by
					most = max(most, now)
				}
				began := time.Now()
				require.NoError(t, Each(t.Context(), n, func(i int) error {
					count(1)
					defer count(-1)
					<-time.After(time.Second)
					mu.Lock()
					defer mu.Unlock()
					called[i]++
					return nil
				}))
				rounds := (n + readsInFlight - 1) / readsInFlight
				require.Equal(t, time.Duration(rounds)*time.Second, time.Since(began))
				require.Equal(t, min(n, readsInFlight), most)
				require.Len(t, called, n)
				for i, times := range called {
					require.Equal(t, 1, times, "call %d", i)
				}
			})
		})
	}
}

// An error keeps no other from being called, and the same one is returned in every run.
func TestEachGoesOnAfterAnError(t *testing.T) {
	var called sync.Map
	err := Each(t.Context(), 100, func(i int) error {
		called.Store(i, true)
		if i%10 == 3 {
			return fmt.Errorf("number %d", i)
		}
		return nil
	})
	require.EqualError(t, err, "number 3")
	for i := range 100 {
		_, found := called.Load(i)
		require.True(t, found, "call %d", i)
	}
}

func TestEachEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var mu sync.Mutex
		called := 0
		err := Each(ctx, 1000, func(int) error {
			mu.Lock()
			called++
			mu.Unlock()
			<-time.After(time.Second)
			return errors.New("storage")
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 2*readsInFlight, called, "those that had begun")
	})
}
