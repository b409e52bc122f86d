// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
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
	e.index.SetPlan(plan)
	for _, r := range tenants {
		p.records[r.ID] = r
		e.index.Changed(r.ID, r)
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
	for sort, want := range map[dueindex.Sort][]string{
		dueindex.ByDueDate: {"apple", "Zebra", "rotating", "", "failed", "Éclair", "paused", "deleting"},
		dueindex.ByName:    {"apple", "deleting", "failed", "paused", "rotating", "Zebra", "Éclair", ""},
		dueindex.ByAge:     {"paused", "apple", "Zebra", "rotating", "", "failed", "Éclair", "deleting"},
	} {
		f, err := e.Fleet(t.Context(), dueindex.Query{Sort: sort, Limit: 100})
		require.NoError(t, err)
		require.Equal(t, want, namesOf(f), sort)
		var paged []string
		for after := ""; ; {
			part, err := e.Fleet(t.Context(), dueindex.Query{Sort: sort, After: after, Limit: 3})
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
	e.index.Block(e.index.VisitOf(small()[0].ID), "no room")
	for _, c := range []struct {
		q    dueindex.Query
		want []string
	}{
		{dueindex.Query{State: dueindex.Overdue}, []string{"apple", "Zebra", "rotating"}},
		{dueindex.Query{State: dueindex.Failed}, []string{"failed"}},
		{dueindex.Query{State: dueindex.Paused}, []string{"paused"}},
		{dueindex.Query{State: dueindex.Blocked}, []string{"Éclair"}},
		{dueindex.Query{State: dueindex.Deleting}, []string{"deleting"}},
		{dueindex.Query{Search: "AP"}, []string{"apple"}},
		{dueindex.Query{Search: "éCL"}, []string{"Éclair"}},
		{dueindex.Query{Search: "pple"}, nil},
		{dueindex.Query{Search: id}, []string{"paused"}},
		{dueindex.Query{Search: strings.ToUpper(id[:12])}, []string{"paused"}},
		{dueindex.Query{Search: "00001"}, []string{"apple", "Éclair"}},
		{dueindex.Query{Search: "00002000-"}, []string{"Zebra"}},
		{dueindex.Query{Search: "00002000-0000-0000-0000-0000000000000"}, nil},
		{dueindex.Query{Search: "0000200-"}, nil},
		{dueindex.Query{Search: "-"}, nil},
		{dueindex.Query{Search: "d"}, []string{"deleting"}},
		{dueindex.Query{Search: "apple", State: dueindex.Paused}, nil},
	} {
		c.q.Sort, c.q.Limit = dueindex.ByDueDate, 100
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
		e.index.Block(e.index.VisitOf(all[n*7].ID), "no room")
	}
	s, err := e.Status(t.Context())
	require.NoError(t, err)
	require.Positive(t, s.Overdue)
	require.Positive(t, s.PausedOverdue)
	require.Positive(t, s.Blocked)
	for state, want := range map[dueindex.Filter]int{dueindex.Overdue: s.Overdue, dueindex.Failed: s.Failed, dueindex.Paused: s.Paused, dueindex.Blocked: s.Blocked, "": s.Tenants} {
		f, err := e.Fleet(t.Context(), dueindex.Query{State: state, Sort: dueindex.ByAge, Limit: 1000})
		require.NoError(t, err)
		require.Len(t, f.Tenants, want, state)
		for _, o := range f.Tenants {
			require.True(t, state != dueindex.Overdue || o.Overdue, "the record says otherwise")
		}
	}
}

func TestFleetIsCounted(t *testing.T) {
	e, _ := fleetOf(t, small()...)
	f, err := e.Fleet(t.Context(), dueindex.Query{Sort: dueindex.ByName, State: dueindex.Failed, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, [...]int{1, 0, 0, 1, 0, 1, 4}, f.KeyAges, "of the whole fleet, but for what is being deleted")
	require.Equal(t, [54]int{0: 2, 1: 1, 38: 1, 51: 1}, f.DueByWeek, "265 and 355 days are in the 38th and the 51st week")
	require.False(t, f.Complete)
}

// A walk goes on where it was, although the tenant at the end of the part before has
// been rotated, renamed or deleted since.
func TestFleetGoesOnWhereItWas(t *testing.T) {
	for sort, change := range map[dueindex.Sort]func(*Engine, *tenant.Record){
		dueindex.ByDueDate: func(e *Engine, r *tenant.Record) {
			e.index.Changed(r.ID, with(r.Clone(), func(r *tenant.Record) { r.Keys.Active().ActivatedAt = today }))
		},
		dueindex.ByName: func(e *Engine, r *tenant.Record) {
			e.index.Changed(r.ID, with(r.Clone(), func(r *tenant.Record) { r.DisplayName = "zzz" }))
		},
		dueindex.ByAge: func(e *Engine, r *tenant.Record) { e.index.Changed(r.ID, nil) },
	} {
		var all []*tenant.Record
		for n := range 20 {
			all = append(all, record(n, fmt.Sprintf("name %02d", n), 700-n))
		}
		e, _ := fleetOf(t, all...)
		first, err := e.Fleet(t.Context(), dueindex.Query{Sort: sort, Limit: 5})
		require.NoError(t, err)
		last := first.Tenants[4]
		require.Equal(t, "name 04", last.DisplayName)
		change(e, all[4])
		next, err := e.Fleet(t.Context(), dueindex.Query{Sort: sort, Limit: 5, After: last.TenantID})
		require.NoError(t, err)
		require.Equal(t, []string{"name 05", "name 06", "name 07", "name 08", "name 09"}, namesOf(next), sort)
	}
}

func TestFleetRefusesWhereToGoOn(t *testing.T) {
	all := small()
	e, _ := fleetOf(t, all...)
	for _, after := range []string{"x", "00001000", uuid.NewString(), strings.ReplaceAll(all[0].ID, "-", ""), "{" + all[0].ID + "}", all[0].ID + "."} {
		_, err := e.Fleet(t.Context(), dueindex.Query{Sort: dueindex.ByName, Limit: 5, After: after})
		require.ErrorIs(t, err, dueindex.ErrAfter, after)
	}
	f, err := e.Fleet(t.Context(), dueindex.Query{Sort: dueindex.ByName, Limit: 1, After: all[2].ID}) // that no part has ended with
	require.NoError(t, err)
	require.Equal(t, []string{"Éclair"}, namesOf(f))
}

// A page of a large fleet reads the records that it answers, and no other.
func TestFleetReadsWhatItAnswers(t *testing.T) {
	const many = 100_000
	all := make([]*tenant.Record, many)
	for n := range all {
		all[n] = record(n, fmt.Sprintf("Tenant %05d", n*7919%many), n%400)
	}
	e, p := fleetOf(t, all...)
	for _, q := range []dueindex.Query{
		{Sort: dueindex.ByDueDate, Limit: 100}, {Sort: dueindex.ByName, Limit: 1000, Search: "tenant 5"}, {Sort: dueindex.ByAge, Limit: 10, State: dueindex.Overdue}, {Sort: dueindex.ByName, Limit: 50, Search: "nobody"},
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
