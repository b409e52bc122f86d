// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// TestEmergenciesAreNotForgotten makes requests for many rotations, and lets everyone who
// may do something to the tenant do it between a request and its end, at random: with
// failing rotations, failing writes, crashes and restarts. After each step status names
// the tenant, with a reason that is true, while it owes a rotation to a request that was
// acknowledged; and in the end, when nobody holds it back, it is rotated. The rules are
// those of docs/model/campaign.py.
func TestEmergenciesAreNotForgotten(t *testing.T) {
	seed := seedOf(t)
	walks := 300
	if underRace {
		walks /= 10
	}
	for n := range walks {
		ok := t.Run(fmt.Sprint(n), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed+uint64(n))
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			synctest.Test(t, func(t *testing.T) { newEmergency(t, random).walk() })
		})
		if !ok {
			t.FailNow()
		}
	}
}

// emergency is a tenant that owes rotations, and what was done to it.
type emergency struct {
	*witness
	random *rand.Rand
	taken  []string
	held   int      // places for pages, all that there are: rotations do not get on
	mend   func()   // rights the page that is damaged, so that rotations fail; nil: none is
	owed   []demand // acknowledged, and of the tenant that there is now
}

// demand is an acknowledged request.
type demand struct {
	at            time.Time // of the answer
	includePaused bool
}

func newEmergency(t *testing.T, random *rand.Rand) *emergency {
	m := newMount(t)
	w := newWitness(m)
	w.must(update, "config", map[string]any{"manual_rotations_per_hour": 0})
	w.create()
	w.bulk(4, 3000)
	return &emergency{witness: w, random: random}
}

func (m *emergency) walk() {
	defer func() {
		if m.t.Failed() {
			m.setHold(false)
			m.t.Log(strings.Join(m.taken, ", "))
		}
	}()
	actions := []string{
		"all", "named", "all include paused", "named include paused", "rotate", "cancel", "retry", "pause", "resume",
		"pause tenant", "un-pause tenant", "delete", "restore", "shred", "create", "hold", "let go", "harm", "mend",
		"restart", "crash", "tick", "an hour", "a day",
	}
	for range 25 {
		what := actions[m.random.IntN(len(actions))]
		m.taken = append(m.taken, what)
		struck := m.disturb()
		m.do(what)
		m.storage.Fail(nil)
		advance(time.Second)
		if struck.Load() {
			// What a write did that failed is known once the schedule has looked.
			m.check(m.namedAnyhow)
			m.tick()
		}
		m.check(m.named)
	}
	m.end()
}

// disturb lets one write fail now and then, and says whether one has.
func (m *emergency) disturb() (struck *atomic.Bool) {
	struck = new(atomic.Bool)
	fault := []storagetest.Fault{storagetest.None, storagetest.None, storagetest.Before, storagetest.After, storagetest.AfterStale}[m.random.IntN(5)]
	of, at, n := []string{"tenants/", "settings", ""}[m.random.IntN(3)], m.random.IntN(3), 0
	m.storage.Fail(func(op, key string) storagetest.Fault {
		if (op == "put" || op == "delete") && strings.HasPrefix(key, of) {
			if n++; n == at+1 {
				struck.Store(fault != storagetest.None)
				return fault
			}
		}
		return storagetest.None
	})
	return struck
}

func (m *emergency) do(what string) {
	m.t.Helper()
	switch what {
	case "hold":
		m.setHold(true)
	case "let go":
		m.setHold(false)
	case "harm":
		if m.mend == nil && len(m.pageKeys()) > 0 {
			m.harm()
		}
	case "mend":
		if m.mend != nil {
			m.mend()
			m.mend = nil
		}
	case "restart", "crash":
		m.reopen(what == "crash")
	case "tick":
		m.tick()
	case "an hour":
		m.hourly(time.Hour)
	case "a day":
		m.hourly(day)
	default:
		m.request(what)
	}
}

// harm damages a page until it is mended, or written.
func (m *emergency) harm() {
	key := m.largestPage()
	whole := m.disk.Value(key)
	m.damaged = key
	m.damage()
	damaged := m.disk.Value(key)
	m.mend = func() {
		if bytes.Equal(damaged, m.disk.Value(key)) {
			m.disk.Set(key, whole)
		}
	}
}

func (m *emergency) setHold(hold bool) {
	for ; !hold && m.held > 0; m.held-- {
		m.b.pages.Release()
	}
	for hold && m.held < 32 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		err := m.b.pages.Acquire(ctx)
		cancel()
		if err != nil {
			return
		}
		m.held++
	}
}

func (m *emergency) reopen(crash bool) {
	m.setHold(false)
	if crash {
		m.crash()
	} else {
		m.close()
	}
	if m.random.IntN(2) == 0 {
		m.disk.RestartVault()
	}
	m.witness = m.on(openMount(m.t, m.disk, 0, storagetest.None))
	advance(time.Second)
}

// request makes a request of anybody.
func (m *emergency) request(what string) {
	paused := strings.HasSuffix(what, "include paused")
	var err error
	switch what {
	case "all", "all include paused":
		_, err = m.call(update, "rotations", map[string]any{"all": true, "reason": reasonAsked, "include_paused": paused})
		m.asked(err, paused)
	case "named", "named include paused":
		_, err = m.call(update, "rotations", map[string]any{"tenants": []any{testTenant}, "reason": reasonAsked, "include_paused": paused})
		m.asked(err, paused)
	case "rotate":
		_, _ = m.call(update, tenantPath("/dek/rotate"), nil)
	case "cancel", "retry", "pause", "resume":
		if r := m.known(); r != nil && r.Rotation != nil {
			_, _ = m.call(update, action(r.Rotation.ID, what), nil)
		} else if r != nil && r.Last != nil {
			_, _ = m.call(update, action(r.Last.ID, what), nil)
		}
	case "pause tenant", "un-pause tenant":
		_, _ = m.call(update, tenantPath(""), map[string]any{"rotation_paused": what == "pause tenant", "must_exist": true})
	case "delete":
		_, _ = m.call(del, tenantPath(""), map[string]any{"deletion_window": "720h"})
	case "restore":
		_, _ = m.call(update, tenantPath("/restore"), nil)
	case "shred":
		m.owed = nil // whatever comes of it: it is tried to the end
		_, _ = m.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		m.storage.Fail(nil)
		_, _ = m.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		m.tick()
		m.mend = nil
		for item := range m.allowed {
			m.allowed[item] = []string{absent}
		}
	case "create":
		_, _ = m.call(update, tenantPath(""), nil)
		m.put("bulk/1", fmt.Sprint("after ", len(m.taken)))
	}
}

// asked notes an acknowledged request, if there is a tenant that it concerns.
func (m *emergency) asked(err error, includePaused bool) {
	if err == nil && m.known() != nil {
		m.owed = append(m.owed, demand{time.Now(), includePaused})
		time.Sleep(time.Millisecond)
	}
}

// known is the tenant's record as the engine reads it, nil if there is none.
func (m *emergency) known() *tenant.Record {
	r, err := m.b.tenants.ReadStored(context.Background(), testTenant)
	if errors.Is(err, tenant.ErrNotFound) || err == nil && r.State == tenant.Shredding {
		return nil
	}
	require.NoError(m.t, err)
	return r
}

// check drops what was served: by a rotation that started after the answer, and
// completed. While anything is left, status must name the tenant.
func (m *emergency) check(named func(*tenant.Record)) {
	m.t.Helper()
	r := m.known()
	if r == nil {
		m.owed = nil
		return
	}
	history, err := m.b.rotations.All(context.Background(), r)
	require.NoError(m.t, err)
	m.owed = slices.DeleteFunc(m.owed, func(d demand) bool {
		return slices.ContainsFunc(history, func(done *tenant.Rotation) bool {
			return done.Phase == tenant.Completed && !done.StartedAt.Before(d.at)
		})
	})
	if len(m.owed) > 0 {
		named(r)
	}
}

// namedAnyhow checks that status names the tenant, for whatever reason.
func (m *emergency) namedAnyhow(*tenant.Record) {
	m.t.Helper()
	st := m.must(read, "status", nil)
	_, blocked := st["blocked_tenants"].(map[string]string)[testTenant]
	require.True(m.t, blocked || slices.Contains(st["overdue_tenants"].([]string), testTenant), "%v", st)
}

// named checks that status names the tenant, with a reason that is true.
func (m *emergency) named(r *tenant.Record) {
	m.t.Helper()
	st := m.must(read, "status", nil)
	why, blocked := st["blocked_tenants"].(map[string]string)[testTenant]
	include := slices.ContainsFunc(m.owed, func(d demand) bool { return d.includePaused })
	paused := r.RotationPaused && !include && r.Rotation == nil
	in := func(field string) bool { return slices.Contains(st[field].([]string), testTenant) }
	if !paused && r.State == tenant.Active {
		require.True(m.t, in("overdue_tenants"), "%v\n%+v\n%s", st, r, m.disk.Value("settings"))
	}
	switch {
	case r.State == tenant.Deleting:
		require.Contains(m.t, why, "being deleted")
	case r.Rotation != nil && r.Rotation.Paused:
		require.Contains(m.t, why, "its rotation is paused")
	case r.Rotation != nil:
		require.False(m.t, blocked, why)
		require.Equal(m.t, 1, st["rotations_active"])
	case strings.Contains(why, "rotation_paused"):
		require.True(m.t, paused)
		require.True(m.t, in("paused_tenants"))
	case strings.Contains(why, "failed"):
		require.Equal(m.t, tenant.Failed, r.Last.Phase)
		m.waits(r, why)
	case strings.Contains(why, "cancelled"):
		require.Equal(m.t, tenant.RolledBack, r.Last.Phase)
		m.waits(r, why)
	case blocked:
		require.Fail(m.t, "a reason that is not true", why)
	case paused:
		require.True(m.t, in("paused_tenants"), "an older request may include it")
	}
}

// waits checks that what was tried last was for the latest request.
func (m *emergency) waits(r *tenant.Record, why string) {
	m.t.Helper()
	require.Contains(m.t, why, r.RotateAfter.Add(time.Second-1).Truncate(time.Second).UTC().Format(time.RFC3339))
	require.False(m.t, r.Last.StartedAt.Before(m.owed[len(m.owed)-1].at), "it waits, and nothing was tried")
}

// end removes all that holds the tenant back: then it is rotated.
func (m *emergency) end() {
	m.t.Helper()
	m.taken = append(m.taken, "END")
	m.setHold(false)
	m.do("mend")
	m.reopen(true)
	m.hourly(time.Hour)
	if r := m.known(); r != nil {
		_, _ = m.call(update, tenantPath("/restore"), nil)
		_, err := m.call(update, tenantPath(""), map[string]any{"rotation_paused": false})
		require.NoError(m.t, err)
		if r.Rotation != nil {
			_, _ = m.call(update, action(r.Rotation.ID, "resume"), nil)
		}
		m.hourly(33 * day) // the longest back-off
		m.check(func(*tenant.Record) {})
		require.Empty(m.t, m.owed, "asked for, acknowledged and forgotten")
		require.Equal(m.t, 0, m.must(read, "status", nil)["overdue"])
		n := len(m.rotationsOf(testTenant))
		m.hourly(2 * day)
		require.Len(m.t, m.rotationsOf(testTenant), n, "once is enough")
		m.readsBack()
	}
	m.close()
}
