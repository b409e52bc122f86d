// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// slowReads lets storage take its time for entries with a prefix, and counts their reads.
type slowReads struct {
	prefix  string
	latency time.Duration

	mu          sync.Mutex
	reads       int
	now, most   int // at once
	first, last time.Time
}

func (s *slowReads) hook(op, key string) {
	if op != "get" || !strings.HasPrefix(key, s.prefix) {
		return
	}
	s.count(1)
	<-time.After(s.latency)
	s.count(-1)
}

func (s *slowReads) count(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = time.Now()
	}
	s.last = time.Now()
	s.reads += max(by, 0)
	s.now += by
	s.most = max(s.most, s.now)
}

// A campaign leaves thousands of rotations unfinished. Each minute their entries of the
// write-ahead log are read once, many at a time, and a list of them reads what it needs in
// the same way: one after the other, that takes seconds.
func TestUnfinishedRotationsAreReadTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			tenants = 40
			bound   = 16
			rounds  = (tenants + bound - 1) / bound
			latency = 10 * time.Millisecond
		)
		m := enginetest.NewMount(t)
		defer func() { m.Close() }()
		for n := range tenants {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/secrets/a", enginetest.Secret("v"))
		}
		m.Quiesce()
		m.Storage.Fail(enginetest.FailOn("put", "pages/", storagetest.Before)) // no rotation ends
		for n := range tenants {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/dek/rotate", nil)
		}
		enginetest.Advance(time.Second)

		slow := &slowReads{prefix: "wal/", latency: latency}
		m.Storage.Hook(slow.hook)
		m.Tick()
		require.Equal(t, tenants, slow.reads, "each entry once")
		require.Equal(t, bound, slow.most)
		require.Equal(t, rounds*latency, slow.last.Sub(slow.first))
		m.Close()

		m = enginetest.Conditions{}.Open(t, m.Disk, 0, storagetest.None)
		m.Storage.Hook(func(string, string) { <-time.After(latency) })
		began := time.Now()
		require.Len(t, m.Must(enginetest.List, "rotations", nil)["keys"], tenants)
		// The log and the records, and a few reads of what the mount has once.
		require.LessOrEqual(t, time.Since(began), (2*rounds+6)*latency)
	})
}
