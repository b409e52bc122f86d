// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"sync"
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
