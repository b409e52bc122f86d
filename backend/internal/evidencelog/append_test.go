// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

func TestLogBeginsWithItsBinary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		at, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		require.Equal(t, []evidencelog.Position{{Log: 1, Index: 1, Seq: 1}}, at)
		events := check(t, p)
		started, ok := events[0].Detail.(*evidence.LogStarted)
		require.True(t, ok)
		require.Equal(t, "aa", started.PluginSHA256)
		p.end()

		// The same binary again says nothing, another one does.
		p = start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err = p.Append(t.Context(), pending(event(1, 2), true))
		require.NoError(t, err)
		require.Len(t, check(t, p), 3)
		p.end()
		p = start(t, storagetest.Open(disk, 0, storagetest.None), func(c *evidencelog.Config) {
			c.Started = startedBy("bb")
		})
		_, err = p.Append(t.Context(), pending(event(1, 3), true))
		require.NoError(t, err)
		events = check(t, p)
		require.Len(t, events, 5)
		require.Equal(t, "bb", events[3].Detail.(*evidence.LogStarted).PluginSHA256)
		p.end()

		// The first binary once more is logged once more.
		p = start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err = p.Append(t.Context(), pending(event(1, 4), true))
		require.NoError(t, err)
		events = check(t, p)
		require.Len(t, events, 7)
		require.Equal(t, "aa", events[5].Detail.(*evidence.LogStarted).PluginSHA256)
	})
}

func TestEventsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		first, err := p.Append(t.Context(), pending(event(1, 1), true), pending(event(1, 2), true), pending(mountEvent(1), true))
		require.NoError(t, err)
		size := p.Size()
		for range 2 {
			for i, e := range []evidence.Event{event(1, 1), event(1, 2), mountEvent(1)} {
				again, err := p.Append(t.Context(), pending(e, false))
				require.NoError(t, err)
				require.Equal(t, first[i], again[0])
			}
			require.Equal(t, size, p.Size())
			p.end()
			p = start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		}
		// Twice in one request, too.
		both, err := p.Append(t.Context(), pending(event(2, 1), true), pending(event(2, 1), true), pending(mountEvent(2), true), pending(mountEvent(2), false))
		require.NoError(t, err)
		require.Equal(t, both[0], both[1])
		require.Equal(t, both[2], both[3])
		check(t, p)
	})
}

func TestAnotherEventInItsPlaceIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
		_, err := p.Append(t.Context(), pending(event(1, 1), true), pending(event(1, 2), true))
		require.NoError(t, err)
		for _, seq := range []int{1, 2} {
			other := event(1, seq)
			other.EventID = evidence.EventID("other")
			_, err = p.Append(t.Context(), pending(other, true))
			require.ErrorIs(t, err, evidencelog.ErrConflict)
		}
		// A conflict keeps nobody else from the log.
		_, err = p.Append(t.Context(), pending(event(2, 1), true))
		require.NoError(t, err)
		check(t, p)
	})
}

func TestInvalidEventIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
		bad := event(1, 1)
		bad.Actor = ""
		_, err := p.Append(t.Context(), pending(bad, true))
		require.ErrorIs(t, err, evidence.ErrInvalid)
		_, err = p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
	})
}

// A sequence in which an event was lost goes on, and shows the gap.
func TestGapShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
		at, err := p.Append(t.Context(), pending(event(1, 1), true), pending(event(1, 3), true))
		require.NoError(t, err)
		leaf, err := p.Entry(t.Context(), at[1].Index)
		require.NoError(t, err)
		e, err := evidence.Decode(leaf)
		require.NoError(t, err)
		require.EqualValues(t, 3, e.Seq)
		require.Equal(t, at[0].Index, *e.Previous)
	})
}

func TestEventsOfManyTenantsShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)
		p := start(t, s, nil)
		_, err := p.Append(t.Context(), pending(event(0, 1), true))
		require.NoError(t, err)
		synctest.Wait()
		before := s.Ops()
		// While the first batch is under way, the others gather.
		release := make(chan struct{})
		var once sync.Once
		s.Hook(func(op, _ string) {
			if op == "put" {
				once.Do(func() { <-release })
			}
		})
		var wg sync.WaitGroup
		const tenants = 500
		for i := range tenants {
			wg.Go(func() {
				_, err := p.Append(t.Context(), pending(event(i+1, 1), true))
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		synctest.Wait()
		s.Hook(nil)
		require.LessOrEqual(t, s.Ops()-before, 20, "storage operations of %d events: %v", tenants, s.Log()[before:])
		require.Len(t, check(t, p), tenants+2)
	})
}

// A caller that gives up leaves its event in the queue.
func TestCallerWaitsNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)
		p := start(t, s, nil)
		_, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		s.Outage(storagetest.ErrInjected, false)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = p.Append(ctx, pending(event(1, 2), true))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1, p.Waiting())
		s.Outage(nil, false)
		_, err = p.Append(t.Context(), pending(event(1, 2), false))
		require.NoError(t, err)
		require.Zero(t, p.Waiting())
		require.Len(t, check(t, p), 3)
	})
}

// An instance that has ended signs nothing, even if it was about to.
func TestEndedInstanceSignsNothing(t *testing.T) {
	for at, entries := range map[string]int{"chunk": 1, "tile": 254} { // the next completes a tile
		t.Run("at "+at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := storagetest.NewDisk()
				s := storagetest.Open(disk, 0, storagetest.None)
				p := start(t, s, nil)
				fill(t, p, entries)
				synctest.Wait()
				before := s.Ops()
				stalled := make(chan struct{})
				var once sync.Once
				s.Done(func(op, key string) { // Vault starts an instance once writes have taken effect
					if op == "put" && strings.Contains(key, "/"+at+"/") {
						once.Do(func() { <-stalled })
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				go func() { _, _ = p.Append(ctx, pending(event(5002, 1), true)) }()
				synctest.Wait()
				p.stop()
				cancel()

				// The next one starts, and logs something else.
				next := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
				_, err := next.Append(t.Context(), pending(event(5003, 1), true))
				require.NoError(t, err)
				close(stalled)
				<-p.done
				synctest.Wait()
				for _, line := range s.Log()[before:] {
					require.False(t, strings.HasPrefix(line, "put") && strings.Contains(line, "/checkpoint/"), line)
				}
				require.Len(t, check(t, next), entries+3, "the chunk of the one before is completed")
			})
		})
	}
}

// An instance that finds another's checkpoint takes it over.
func TestOtherInstanceIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		a := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err := a.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		b := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		for seq := 2; seq < 6; seq += 2 {
			_, err = b.Append(t.Context(), pending(event(1, seq), true))
			require.NoError(t, err)
			_, err = a.Append(t.Context(), pending(event(1, seq+1), true))
			require.NoError(t, err)
		}
		require.Len(t, check(t, a), 6)
		require.NotEmpty(t, a.reported())
	})
}

// An instance that another one has overtaken between its writes and its signature does
// not sign a second root of a size.
func TestOvertakenInstanceDoesNotSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		s := storagetest.Open(disk, 0, storagetest.None)
		a := start(t, s, nil)
		_, err := a.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		synctest.Wait()
		stalled := make(chan struct{})
		var once sync.Once
		s.Done(func(op, key string) {
			if op == "put" && strings.Contains(key, "/chunk/") {
				once.Do(func() { <-stalled })
			}
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := a.Append(t.Context(), pending(event(2, 1), true))
			require.NoError(t, err)
		})
		synctest.Wait()
		b := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err = b.Append(t.Context(), pending(event(3, 1), true))
		require.NoError(t, err)
		shown, err := b.Checkpoint(t.Context(), 3)
		require.NoError(t, err)
		close(stalled)
		wg.Wait()
		kept, err := a.Checkpoint(t.Context(), 3)
		require.NoError(t, err)
		require.Equal(t, string(shown), string(kept))
		require.Len(t, check(t, a), 4)
	})
}
