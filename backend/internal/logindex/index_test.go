// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package logindex_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const tenants = 30

// memory is a log and its storage.
type memory struct {
	mu     sync.Mutex
	events []*evidence.Event
	stored map[string][]byte
	lost   func(key string) bool // cannot be read
	gone   error                 // what Put fails with
	reads  int
}

func (m *memory) Events(_ context.Context, _ logindex.At, from, to int64, f func(int64, *evidence.Event)) error {
	for i := from; i < to; i++ {
		f(i, m.events[i])
	}
	return nil
}

func (m *memory) Read(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if value := m.stored[key]; value != nil && (m.lost == nil || !m.lost(key)) {
		return value, nil
	}
	return nil, errors.New("it cannot be read")
}

func (m *memory) Present(_ context.Context, key string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stored[key] != nil, nil
}

func (m *memory) Put(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone != nil {
		return m.gone
	}
	m.stored[key] = value
	return nil
}

func (m *memory) at() logindex.At { return logindex.At{Log: 1, Size: int64(len(m.events))} }

// grow adds events of tenants in turn, and of the mount.
func (m *memory) grow(x *logindex.Index, count int) {
	before := len(m.events)
	for n := before; n < before+count; n++ {
		head := evidence.Head{EventID: fmt.Sprintf("event-%d", n), Seq: int64(n/(tenants+1) + 1)}
		if of := n % (tenants + 1); of > 0 {
			head.TenantID, head.Incarnation = tenantID(of), "first"
		}
		m.events = append(m.events, &evidence.Event{Head: head})
	}
	x.Add(m.events[before:])
}

func tenantID(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }

func open(t *testing.T, m *memory) *logindex.Index {
	t.Helper()
	x := logindex.New(m, func(error) {})
	c, err := x.Load(t.Context(), m.at())
	require.NoError(t, err)
	x.Install(c)
	return x
}

// check looks up every tenant, and the mount, in each way.
func check(t *testing.T, m *memory, x *logindex.Index) {
	t.Helper()
	for of := range tenants + 1 {
		s := logindex.Scope{}
		if of > 0 {
			s = logindex.Scope{TenantID: tenantID(of), Incarnation: "first"}
		}
		var want []int64
		for i := of; i < len(m.events); i += tenants + 1 {
			want = append(want, int64(i))
		}
		found, err := x.Tenant(t.Context(), m.at(), s.TenantID, -1, len(m.events))
		require.NoError(t, err)
		require.Equal(t, want, found)
		found, err = x.Tenant(t.Context(), m.at(), s.TenantID, want[2], 3)
		require.NoError(t, err)
		require.Equal(t, want[3:6], found)

		last, err := x.Last(t.Context(), m.at(), s)
		require.NoError(t, err)
		require.Equal(t, want[len(want)-1], last.Index)
		event := m.events[want[1]]
		one, err := x.Event(t.Context(), m.at(), s, event.EventID, event.Seq)
		require.NoError(t, err)
		require.Equal(t, want[1], one.Index)
		one, err = x.Event(t.Context(), m.at(), s, event.EventID, event.Seq+1)
		require.NoError(t, err)
		require.Nil(t, one)
	}
	last, err := x.Last(t.Context(), m.at(), logindex.Scope{TenantID: tenantID(1), Incarnation: "second"})
	require.NoError(t, err)
	require.Nil(t, last)
}

// What is found is the same before and after segments are built, after a start, and
// where parts of the index cannot be read.
func TestIndexFindsWhatIsLogged(t *testing.T) {
	m := &memory{stored: map[string][]byte{}}
	x := open(t, m)
	for _, more := range []int{300, 1024, 17_000} {
		m.grow(x, more)
		check(t, m, x)
		for x.Due() {
			require.NoError(t, x.Build(t.Context()))
		}
		check(t, m, x)
		check(t, m, open(t, m))
	}
	require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(m.stored)), func(key string) bool {
		return strings.Contains(key, "/index/1/")
	}), "sixteen segments make one of the next level")
	for _, level := range []string{"/index/0/", "/index/1/"} {
		m.lost = func(key string) bool { return strings.Contains(key, level) }
		check(t, m, x)
	}
}

// A caller that holds an older checkpoint gets nothing of what came after it.
func TestIndexKnowsNothingBeyondACheckpoint(t *testing.T) {
	m := &memory{stored: map[string][]byte{}}
	x := open(t, m)
	m.grow(x, 500)
	before := m.at()
	m.grow(x, 2000)
	require.NoError(t, x.Build(t.Context()))
	found, err := x.Tenant(t.Context(), before, tenantID(1), -1, 5000)
	require.NoError(t, err)
	require.Len(t, found, 17)
	require.Less(t, found[16], before.Size)
	last, err := x.Last(t.Context(), before, logindex.Scope{TenantID: tenantID(1), Incarnation: "first"})
	require.NoError(t, err)
	require.Equal(t, found[16], last.Index)
}

// A segment that could not be written is not taken for built.
func TestSegmentCountsOnceItIsWhole(t *testing.T) {
	m := &memory{stored: map[string][]byte{}, gone: errors.New("no space")}
	x := open(t, m)
	m.grow(x, 1500)
	require.ErrorIs(t, x.Build(t.Context()), m.gone)
	require.True(t, x.Due())
	m.gone = nil
	check(t, m, x)
	require.NoError(t, x.Build(t.Context()))
	require.False(t, x.Due())
	check(t, m, open(t, m))
}

// After a start each tenant is looked up once, so what many lookups share is read once.
func TestLookupsShareWhatTheyRead(t *testing.T) {
	m := &memory{stored: map[string][]byte{}}
	x := open(t, m)
	m.grow(x, 17*1024)
	require.NoError(t, x.Build(t.Context()))
	x, m.reads = open(t, m), 0
	check(t, m, x)
	require.LessOrEqual(t, m.reads, 17, "one segment of level 1, of 16 parts, and one of level 0")
}
