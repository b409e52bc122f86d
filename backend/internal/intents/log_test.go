// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package intents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// entries is a write-ahead log in memory.
type entries struct {
	mu      sync.Mutex
	all     map[string][]Intent
	puts    int
	failing error         // what Put and Delete fail with
	latency time.Duration // of a Put
}

func (e *entries) Put(_ context.Context, all []Intent) (string, error) {
	<-time.After(e.latency)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failing != nil {
		return "", e.failing
	}
	e.puts++
	id := fmt.Sprintf("entry-%d", e.puts)
	e.all[id] = slices.Clone(all)
	return id, nil
}

func (e *entries) Delete(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failing == nil {
		delete(e.all, id)
	}
	return e.failing
}

// fail lets everything fail from now on, or nothing.
func (e *entries) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failing = err
}

// left is what l lists of all entries.
func (e *entries) left(l *Log) (tenants []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, all := range e.all {
		for _, i := range l.Left(id, all) {
			tenants = append(tenants, i.TenantID)
		}
	}
	slices.Sort(tenants)
	return tenants
}

// answer is what a Put returned.
type answer struct {
	id  string
	err error
}

// together puts n intents at the same time. The first has an entry of its own: the others
// come while it is written.
func together(t *testing.T, l *Log, n int) (answers []answer) {
	t.Helper()
	answers = make([]answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			id, err := l.Put(t.Context(), Intent{TenantID: fmt.Sprint(i), Incarnation: "i"})
			answers[i] = answer{id, err}
		})
		synctest.Wait()
	}
	all.Wait()
	return answers
}

func newEntries() *entries {
	return &entries{all: map[string][]Intent{}, latency: time.Millisecond}
}

func TestIntentsThatComeTogetherShareAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newEntries()
		l := New(log)
		answers := together(t, l, 4)
		require.Equal(t, []answer{{"entry-1", nil}, {"entry-2:0/3", nil}, {"entry-2:1/3", nil}, {"entry-2:2/3", nil}}, answers)
		require.Equal(t, []string{"0", "1", "2", "3"}, log.left(l))

		for i, left := range [][]string{{"1", "2", "3"}, {"1", "2"}, {"1", "2"}, {"2"}, {}} {
			require.NoError(t, l.Delete(t.Context(), answers[[]int{0, 3, 3, 1, 2}[i]].id))
			require.ElementsMatch(t, left, log.left(l))
		}
		require.Empty(t, log.all, "the last intent of an entry takes it with it")
		require.Zero(t, l.inPart.Len())
	})
}

func TestManyShareSeveralEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2*MaxShared + 3
		log := newEntries()
		l := New(log)
		answers := together(t, l, n)
		require.Len(t, log.all, 4)
		require.Len(t, log.left(l), n)
		for _, a := range answers {
			require.NoError(t, a.err)
			require.NoError(t, l.Delete(t.Context(), a.id))
		}
		require.Empty(t, log.all)
	})
}

// Whoever shares an entry that could not be put learns of it, and of none is there a trace.
func TestEntryThatCannotBePut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newEntries()
		log.failing = errors.New("disk full")
		l := New(log)
		for _, a := range together(t, l, 4) {
			require.ErrorIs(t, a.err, log.failing)
		}
		log.fail(nil)
		require.Empty(t, log.left(l))
		id, err := l.Put(t.Context(), Intent{TenantID: "later"})
		require.NoError(t, err)
		require.NoError(t, l.Delete(t.Context(), id))
	})
}

// The last intent of an entry that cannot be deleted is listed, so that it is deleted later.
func TestEntryThatCannotBeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newEntries()
		l := New(log)
		answers := together(t, l, 3)
		log.fail(errors.New("sealed"))
		require.Error(t, l.Delete(t.Context(), answers[0].id))
		require.NoError(t, l.Delete(t.Context(), answers[1].id), "nothing is written for it")
		require.Error(t, l.Delete(t.Context(), answers[2].id))
		require.Equal(t, []string{"0", "2"}, log.left(l))
		log.fail(nil)
		require.NoError(t, l.Delete(t.Context(), answers[2].id))
		require.Equal(t, []string{"0"}, log.left(l))
	})
}

// After a restart all intents of an entry are there, those that were deleted before too.
func TestSharedEntryAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newEntries()
		before := New(log)
		answers := together(t, before, 3)
		require.NoError(t, before.Delete(t.Context(), answers[1].id))
		after := New(log)
		require.Equal(t, []string{"0", "1", "2"}, log.left(after))
		require.Equal(t, []string{"0", "2"}, log.left(before))
		for _, a := range answers {
			require.NoError(t, after.Delete(t.Context(), a.id))
		}
		require.Empty(t, log.all)
	})
}

// A Put that hangs keeps those that share its entry waiting, and nobody else.
func TestPutThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newEntries()
		log.latency = 10 * patience
		l := New(log)
		hangs := make(chan error)
		go func() {
			_, err := l.Put(t.Context(), Intent{TenantID: "hangs"})
			hangs <- err
		}()
		synctest.Wait()
		log.latency = time.Millisecond
		for n := range 3 {
			began := time.Now()
			_, err := l.Put(t.Context(), Intent{TenantID: fmt.Sprint(n)})
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(began), patience+log.latency)
		}
		require.Equal(t, []string{"0", "1", "2"}, log.left(l))
		require.NoError(t, <-hangs)
	})
}

// A caller whose request has ended leaves the others theirs.
func TestRequestThatEndsWhileItsIntentIsPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(newEntries())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := l.Put(ctx, Intent{TenantID: "a"})
		require.NoError(t, err)
	})
}

func TestIDs(t *testing.T) {
	for _, tt := range []struct {
		id     string
		place  place
		shared bool
	}{
		{"3d6a295d", place{}, false},
		{"3d6a295d:0/2", place{"3d6a295d", 0, 2}, true},
		{"3d6a295d:63/64", place{"3d6a295d", 63, 64}, true},
		{"3d6a295d:0/1", place{}, false},
		{"3d6a295d:0/2x", place{}, false},
		{"3d6a295d:00/2", place{}, false},
		{"3d6a295d:2/2", place{}, false},
		{"3d6a295d:-1/2", place{}, false},
		{"3d6a295d:0/65", place{}, false},
		{"3d6a295d:0", place{}, false},
		{"3d6a295d:a/b", place{}, false},
		{"", place{}, false},
	} {
		p, shared := parse(tt.id)
		require.Equal(t, tt.shared, shared, tt.id)
		require.Equal(t, tt.place, p, tt.id)
		if shared {
			require.Equal(t, tt.id, p.String())
		}
	}
}
