// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// today is the clock of these tests.
var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// population is a storage that makes the record of each tenant when it is read.
type population struct {
	logical.InmemStorage
	records map[string]*tenant.Record
	reads   atomic.Int64
}

func (p *population) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if t := p.records[path.Base(key)]; t != nil {
		p.reads.Add(1)
		return logical.StorageEntryJSON(key, t)
	}
	return p.InmemStorage.Get(ctx, key)
}

// fleetOf is an engine whose index has been told of tenants.
func fleetOf(t testing.TB, tenants ...*tenant.Record) (*Engine, *population) {
	t.Helper()
	p := &population{records: map[string]*tenant.Record{}}
	mount := storage.NewMount(p)
	e := NewEngine(Config{
		Mount: mount, Settings: settings.NewStore(mount, "org"), Tenants: tenant.NewStore(mount),
		Rotations: rotation.NewEngine(rotation.Config{}), Now: func() time.Time { return today }, Log: hclog.NewNullLogger(),
	})
	plan, err := e.plan(t.Context())
	require.NoError(t, err)
	e.index.follow(plan)
	for _, r := range tenants {
		p.records[r.ID] = r
		e.index.changed(r.ID, r, nil)
	}
	return e, p
}

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

func namesOf(f *Fleet) (names []string) {
	for _, o := range f.Tenants {
		names = append(names, o.DisplayName)
	}
	return names
}

// small is a fleet with a tenant of each kind.
func small() []*tenant.Record {
	return []*tenant.Record{
		record(0x1000, "Éclair", 10),
		record(0x1001, "apple", 500),
		record(0x2000, "Zebra", 400),
		record(0x2001, "", 364),
		with(record(0x3000, "paused", 600), func(t *tenant.Record) { t.RotationPaused = true }),
		with(record(0x3001, "deleting", 700), func(t *tenant.Record) { t.State, t.DeleteAfter = tenant.Deleting, today.AddDate(0, 0, 3) }),
		with(record(0x3002, "failed", 100), func(t *tenant.Record) { t.Last = &tenant.Rotation{ID: "rot-1", Phase: tenant.Failed} }),
		with(record(0x3003, "rotating", 380), func(t *tenant.Record) { t.Rotation = &tenant.Rotation{ID: "rot-2", Phase: tenant.Sweeping} }),
	}
}

func TestFleetIsSorted(t *testing.T) {
	e, _ := fleetOf(t, small()...)
	for sort, want := range map[Sort][]string{
		ByDueDate: {"apple", "Zebra", "rotating", "", "failed", "Éclair", "paused", "deleting"},
		ByName:    {"apple", "deleting", "failed", "paused", "rotating", "Zebra", "Éclair", ""},
		ByAge:     {"paused", "apple", "Zebra", "rotating", "", "failed", "Éclair", "deleting"},
	} {
		f, err := e.Fleet(t.Context(), Query{Sort: sort, Limit: 100})
		require.NoError(t, err)
		require.Equal(t, want, namesOf(f), sort)
		var paged []string
		for after := ""; ; {
			part, err := e.Fleet(t.Context(), Query{Sort: sort, After: after, Limit: 3})
			require.NoError(t, err)
			if paged = append(paged, namesOf(part)...); len(part.Tenants) < 3 {
				break
			}
			after = part.Tenants[2].TenantID
		}
		require.Equal(t, want, paged, "%s in parts", sort)
	}
}

func TestFleetIsFiltered(t *testing.T) {
	e, _ := fleetOf(t, small()...)
	id := small()[4].ID
	e.index.block(visit{tenantID: small()[0].ID, seq: e.index.entryAt(small()[0].ID).seq}, "no room")
	for _, c := range []struct {
		q    Query
		want []string
	}{
		{Query{State: Overdue}, []string{"apple", "Zebra", "rotating"}},
		{Query{State: Failed}, []string{"failed"}},
		{Query{State: Paused}, []string{"paused"}},
		{Query{State: Blocked}, []string{"Éclair"}},
		{Query{State: Deleting}, []string{"deleting"}},
		{Query{Search: "AP"}, []string{"apple"}},
		{Query{Search: "éCL"}, []string{"Éclair"}},
		{Query{Search: "pple"}, nil},
		{Query{Search: id}, []string{"paused"}},
		{Query{Search: strings.ToUpper(id[:12])}, []string{"paused"}},
		{Query{Search: "00001"}, []string{"apple", "Éclair"}},
		{Query{Search: "00002000-"}, []string{"Zebra"}},
		{Query{Search: "00002000-0000-0000-0000-0000000000000"}, nil},
		{Query{Search: "0000200-"}, nil},
		{Query{Search: "-"}, nil},
		{Query{Search: "d"}, []string{"deleting"}},
		{Query{Search: "apple", State: Paused}, nil},
	} {
		c.q.Sort, c.q.Limit = ByDueDate, 100
		f, err := e.Fleet(t.Context(), c.q)
		require.NoError(t, err)
		require.Equal(t, c.want, namesOf(f), "%+v", c.q)
	}
}

// What fleet shows of a state is what status counts.
func TestFleetAgreesWithStatus(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4)) // #nosec G404 -- a test
	var all []*tenant.Record
	for n := range 500 {
		r := record(n, "", rng.IntN(800))
		r.RotationPaused = rng.IntN(4) == 0
		if rng.IntN(4) == 0 {
			r.Rotation = &tenant.Rotation{ID: "rot-1", Phase: tenant.Sweeping, Paused: rng.IntN(2) == 0}
		}
		if rng.IntN(4) == 0 {
			r.Last = &tenant.Rotation{ID: "rot-0", Phase: []tenant.Phase{tenant.Failed, tenant.RolledBack}[rng.IntN(2)], EndedAt: today}
			r.RotateAfter = today.AddDate(0, 0, rng.IntN(20)-10)
		}
		if rng.IntN(6) == 0 {
			r.State, r.DeleteAfter = tenant.Deleting, today.AddDate(0, 0, 3)
		}
		all = append(all, r)
	}
	e, _ := fleetOf(t, all...)
	for n := range 20 {
		e.index.block(visit{tenantID: all[n*7].ID, seq: e.index.entryAt(all[n*7].ID).seq}, "no room")
	}
	s, err := e.Status(t.Context())
	require.NoError(t, err)
	require.Positive(t, s.Overdue)
	require.Positive(t, s.PausedOverdue)
	require.Positive(t, s.Blocked)
	for state, want := range map[Filter]int{Overdue: s.Overdue, Failed: s.Failed, Paused: s.Paused, Blocked: s.Blocked, "": s.Tenants} {
		f, err := e.Fleet(t.Context(), Query{State: state, Sort: ByAge, Limit: 1000})
		require.NoError(t, err)
		require.Len(t, f.Tenants, want, state)
		for _, o := range f.Tenants {
			require.True(t, state != Overdue || o.Overdue, "the record says otherwise")
		}
	}
}

func TestFleetIsCounted(t *testing.T) {
	e, _ := fleetOf(t, small()...)
	f, err := e.Fleet(t.Context(), Query{Sort: ByName, State: Failed, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, [...]int{1, 0, 0, 1, 0, 1, 4}, f.KeyAges, "of the whole fleet, but for what is being deleted")
	want := [weeks + 2]int{0: 2, 1: 1}
	want[week(0, seconds(265*day))]++
	want[week(0, seconds(355*day))]++
	require.Equal(t, want, f.DueByWeek)
	require.False(t, f.Complete)

	for due, want := range map[uint32]int{0: 0, 100: 0, 101: 1, 100 + secondsAWeek: 1, 101 + secondsAWeek: 2, 100 + 52*secondsAWeek: 52, 101 + 52*secondsAWeek: 53, never: 53} {
		require.Equal(t, want, week(100, due), due)
	}
}

const day = 24 * time.Hour

// A walk goes on where it was, although the tenant at the end of the part before has
// been rotated, renamed or deleted since.
func TestFleetGoesOnWhereItWas(t *testing.T) {
	for sort, change := range map[Sort]func(*Engine, *tenant.Record){
		ByDueDate: func(e *Engine, r *tenant.Record) {
			e.index.changed(r.ID, with(r.Clone(), func(r *tenant.Record) { r.Keys.Active().ActivatedAt = today }), nil)
		},
		ByName: func(e *Engine, r *tenant.Record) {
			e.index.changed(r.ID, with(r.Clone(), func(r *tenant.Record) { r.DisplayName = "zzz" }), nil)
		},
		ByAge: func(e *Engine, r *tenant.Record) { e.index.changed(r.ID, nil, nil) },
	} {
		var all []*tenant.Record
		for n := range 20 {
			all = append(all, record(n, fmt.Sprintf("name %02d", n), 700-n))
		}
		e, _ := fleetOf(t, all...)
		first, err := e.Fleet(t.Context(), Query{Sort: sort, Limit: 5})
		require.NoError(t, err)
		last := first.Tenants[4]
		require.Equal(t, "name 04", last.DisplayName)
		change(e, all[4])
		next, err := e.Fleet(t.Context(), Query{Sort: sort, Limit: 5, After: last.TenantID})
		require.NoError(t, err)
		require.Equal(t, []string{"name 05", "name 06", "name 07", "name 08", "name 09"}, namesOf(next), sort)
	}
}

func TestFleetRefusesWhereToGoOn(t *testing.T) {
	all := small()
	e, _ := fleetOf(t, all...)
	for _, after := range []string{"x", "00001000", uuid.NewString(), strings.ReplaceAll(all[0].ID, "-", ""), "{" + all[0].ID + "}", all[0].ID + "."} {
		_, err := e.Fleet(t.Context(), Query{Sort: ByName, Limit: 5, After: after})
		require.ErrorIs(t, err, ErrAfter, after)
	}
	f, err := e.Fleet(t.Context(), Query{Sort: ByName, Limit: 1, After: all[2].ID}) // that no part has ended with
	require.NoError(t, err)
	require.Equal(t, []string{"Éclair"}, namesOf(f))
}

// Names follow every change, reading the shard again included, and take no more room
// than twice what they need.
func TestNamesFollowChanges(t *testing.T) {
	e, p := fleetOf(t)
	rng := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- a test
	want := map[string]string{}
	id := func() string { return record(rng.IntN(40), "", 0).ID }
	for range 20_000 {
		r := record(rng.IntN(40), strings.Repeat("Ä", rng.IntN(100))+fmt.Sprint(rng.Int()), 5)
		switch rng.IntN(4) {
		case 0:
			e.index.changed(r.ID, nil, nil)
			delete(want, r.ID)
		case 1:
			v := visit{tenantID: id()}
			if _, known := want[v.tenantID]; known {
				v.seq = e.index.entryAt(v.tenantID).seq
				e.index.settle(v, with(r, func(r *tenant.Record) { r.ID = v.tenantID }))
				want[v.tenantID] = r.DisplayName
			}
		default:
			e.index.changed(r.ID, r, nil)
			want[r.ID] = r.DisplayName
		}
	}
	// One tenant's record is not what the index was told, as after a hidden write.
	some := slices.Sorted(func(yield func(string) bool) {
		for id := range want {
			if !yield(id) {
				return
			}
		}
	})
	for _, id := range some {
		p.records[id] = with(record(0, want[id], 5), func(r *tenant.Record) { r.ID = id })
	}
	p.records[some[0]].DisplayName, want[some[0]] = "hidden", "hidden"
	check := func() {
		t.Helper()
		found := map[string]string{}
		e.index.eachNamed(func(e *entry, name []byte) { found[e.id.String()] = string(name) })
		require.Len(t, found, len(want))
		for id, name := range want {
			require.Equal(t, fold(name), found[id])
		}
	}
	for n := range e.index.shards {
		require.NoError(t, e.readShard(t.Context(), n))
		s := &e.index.shards[n]
		require.LessOrEqual(t, s.names.unused, max(minUnused, len(s.names.text)/2))
	}
	check()
}

// A page of a large fleet reads the records that it answers, and no other.
func TestFleetReadsWhatItAnswers(t *testing.T) {
	const many = 100_000
	all := make([]*tenant.Record, many)
	for n := range all {
		all[n] = record(n, fmt.Sprintf("Tenant %05d", n*7919%many), n%400)
	}
	e, p := fleetOf(t, all...)
	for _, q := range []Query{
		{Sort: ByDueDate, Limit: 100}, {Sort: ByName, Limit: 1000, Search: "tenant 5"}, {Sort: ByAge, Limit: 10, State: Overdue}, {Sort: ByName, Limit: 50, Search: "nobody"},
	} {
		before := p.reads.Load()
		began := time.Now()
		f, err := e.Fleet(t.Context(), q)
		require.NoError(t, err)
		require.EqualValues(t, len(f.Tenants), p.reads.Load()-before)
		t.Logf("%+v: %d tenants in %s", q, len(f.Tenants), time.Since(began))
		require.Equal(t, q.Search != "nobody", len(f.Tenants) == q.Limit)
	}
}

func BenchmarkFleet(b *testing.B) {
	const many = 1_000_000
	e, _ := fleetOf(b)
	plan := e.index.current()
	for n := range many {
		r := record(n, fmt.Sprintf("Tenant number %07d", n*7919%many), n%400)
		id := uuid.MustParse(r.ID)
		s := &e.index.shards[tenant.ShardOf(r.ID)]
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
				v := newView(plan, q)
				e.index.eachNamed(v.add)
				require.Len(b, v.picked.best(), q.Limit)
			}
		})
	}
}
