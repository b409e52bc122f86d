// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// today is the clock of these tests.
var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// record is a tenant whose key is so many days old.
func record(n int, name string, days int) *tenant.Record {
	var id uuid.UUID
	binary.BigEndian.PutUint32(id[:], uint32(n)) // #nosec G115 -- a few thousands
	return &tenant.Record{
		ID: id.String(), State: tenant.Active, DisplayName: name,
		Keys: keyring.NewRing(fmt.Sprintf("dek-%d", n), keyring.DefaultKeyType, today.AddDate(0, 0, -days)),
	}
}

func with(r *tenant.Record, change func(*tenant.Record)) *tenant.Record {
	change(r)
	return r
}

func TestWeekOfADueDate(t *testing.T) {
	for due, want := range map[uint32]int{
		0: 0, 100: 0, 101: 1, 100 + secondsAWeek: 1, 101 + secondsAWeek: 2,
		100 + 52*secondsAWeek: 52, 101 + 52*secondsAWeek: 53, never: 53,
	} {
		require.Equal(t, want, week(100, due), due)
	}
}

// Names follow every change, reading the shard again included, and take no more room
// than twice what they need.
func TestNamesFollowChanges(t *testing.T) {
	x := New()
	rng := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- a test
	want := map[string]string{}
	id := func() string { return record(rng.IntN(40), "", 0).ID }
	for range 20_000 {
		r := record(rng.IntN(40), strings.Repeat("Ä", rng.IntN(100))+fmt.Sprint(rng.Int()), 5)
		switch rng.IntN(4) {
		case 0:
			x.Changed(r.ID, nil)
			delete(want, r.ID)
		case 1:
			if v := x.VisitOf(id()); want[v.TenantID] != "" {
				x.Settle(v, with(r, func(r *tenant.Record) { r.ID = v.TenantID }))
				want[v.TenantID] = r.DisplayName
			}
		default:
			x.Changed(r.ID, r)
			want[r.ID] = r.DisplayName
		}
	}
	for n := range x.shards {
		readAgain(x, n, want)
		s := &x.shards[n]
		require.LessOrEqual(t, s.names.unused, max(minUnused, len(s.names.text)/2))
	}
	found := map[string]string{}
	x.eachNamed(func(e *entry, name []byte) { found[e.id.String()] = string(name) })
	require.Len(t, found, len(want))
	for id, name := range want {
		require.Equal(t, fold(name), found[id])
	}
}

// readAgain reads a shard anew. One tenant of it is not called as the index was told, as
// after a write whose error hid its effect.
func readAgain(x *Index, shard int, names map[string]string) {
	known := x.BeginReading(shard)
	defer x.EndReading(shard)
	var found []*Found
	for id := range known {
		if len(found) == 0 {
			names[id.String()] = "hidden"
		}
		found = append(found, x.Found(id, record(0, names[id.String()], 5)))
	}
	x.Install(shard, found)
}

// What was reported since a reading began outlasts what the reading found, and a visit
// that began before does not count.
func TestReportsOutlastAReading(t *testing.T) {
	x := New()
	old, fresh := record(1, "old", 5), record(1, "new", 5)
	x.Changed(old.ID, old)
	visit, shard := x.VisitOf(old.ID), int(tenant.ShardOf(old.ID))
	known := x.BeginReading(shard)
	require.Len(t, known, 1)
	x.Changed(old.ID, fresh)
	x.Install(shard, []*Found{x.Found(uuid.MustParse(old.ID), old)})
	x.EndReading(shard)
	x.Settle(visit, nil)
	require.Equal(t, []string{"new"}, allNames(x))

	x.BeginReading(shard) // nothing is reported meanwhile
	x.Install(shard, nil)
	x.EndReading(shard)
	require.Empty(t, allNames(x))
}

func allNames(x *Index) (all []string) {
	x.eachNamed(func(_ *entry, name []byte) { all = append(all, string(name)) })
	return all
}

func BenchmarkFleet(b *testing.B) {
	const many = 1_000_000
	x := New()
	plan := Plan{Now: today}
	for n := range many {
		r := record(n, fmt.Sprintf("Tenant number %07d", n*7919%many), n%400)
		id := uuid.MustParse(r.ID)
		s := &x.shards[tenant.ShardOf(r.ID)]
		one := plan.entryOf(r)
		one.id = id
		s.names.add(&one, fold(r.DisplayName))
		s.entries = append(s.entries, one) // IDs ascend
	}
	for name, q := range map[string]Query{
		"overdue": {Sort: ByDueDate, Limit: 100}, "search": {Sort: ByName, Limit: 100, Search: "tenant number 00"}, "age": {Sort: ByAge, Limit: 100},
		"name": {Sort: ByName, Limit: 1000},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f, err := x.Fleet(plan, q)
				require.NoError(b, err)
				require.Len(b, f.TenantIDs, q.Limit)
			}
		})
	}
}
