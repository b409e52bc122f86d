// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// requested is the plan once all tenants were asked to rotate for the nth time.
func requested(n int64) Plan {
	return Plan{Now: today, Settings: settings.Rotation{
		RotationInterval: settings.RotationIntervals[0],
		Campaign:         settings.Campaign{Number: n, At: today},
	}}
}

// A request for all that comes between the reading of a record and the end of its shard's
// reading makes that tenant due, too.
func TestRequestForAllDuringAReading(t *testing.T) {
	x := New()
	x.SetPlan(requested(0))
	r := record(1, "", 5)
	shard := int(tenant.ShardOf(r.ID))
	x.BeginReading(shard)
	found := x.Found(uuid.MustParse(r.ID), r)
	x.SetPlan(requested(1))
	x.Install(shard, []*Found{found})
	x.EndReading(shard)
	require.Len(t, x.Due(today), 1)
}

// Whatever happens at once, each entry's time is by the plan that the index follows.
func TestEveryTimeIsByThePlan(t *testing.T) {
	for range 200 {
		x := New()
		var all sync.WaitGroup
		for n := range int64(3) {
			all.Go(func() { x.SetPlan(requested(n)) })
			all.Go(func() { x.Changed(record(int(n), "", 5).ID, record(int(n), "", 5)) })
		}
		all.Wait()
		p := x.current()
		x.each(func(e *entry) { require.Equal(t, p.lookAt(e), e.lookAt) })
		require.Equal(t, p.Settings.Campaign.Number > 0, len(x.Due(today.Add(time.Second))) == 3)
	}
}

// Several jobs set the plan at a tick. One whose plan another one has set already waits
// until that one has gone through the entries, since it asks at once who is due.
func TestSamePlanIsWaitedFor(t *testing.T) {
	x := New()
	last := &x.shards[len(x.shards)-1]
	last.mu.Lock() // the first to set the plan does not come to an end
	var all sync.WaitGroup
	all.Go(func() { x.SetPlan(requested(1)) })
	for x.current().Settings.Campaign.Number != 1 {
		runtime.Gosched()
	}
	var isSet atomic.Bool
	begins := make(chan struct{})
	all.Go(func() {
		close(begins)
		x.SetPlan(requested(1))
		isSet.Store(true)
	})
	<-begins
	for range 10_000 {
		runtime.Gosched()
	}
	require.False(t, isSet.Load(), "some entries have their times by the plan before")
	last.mu.Unlock()
	all.Wait()
	require.True(t, isSet.Load())
}

// A job that has read the settings before a request for all, and comes after it, does not
// take the request back.
func TestFormerPlanIsNotSet(t *testing.T) {
	x := New()
	r := record(1, "", 5)
	x.Changed(r.ID, r)
	former, latest := requested(0), requested(1)
	former.Order, latest.Order = 1, 2
	x.SetPlan(latest)
	x.SetPlan(former)
	require.Len(t, x.Due(today.Add(time.Second)), 1)
}
