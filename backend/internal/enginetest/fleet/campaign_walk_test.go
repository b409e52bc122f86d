// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
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
	seed := enginetest.SeedOf(t)
	walks := 300
	if enginetest.UnderRace {
		walks /= 30
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
	*enginetest.Oracle
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
	m := enginetest.NewMount(t)
	w := enginetest.NewOracle(m)
	w.Must(enginetest.Update, "config", map[string]any{"manual_rotations_per_hour": 0})
	w.Create()
	w.Bulk(4, 3000)
	return &emergency{Oracle: w, random: random}
}

func (m *emergency) walk() {
	defer func() {
		if m.T.Failed() {
			m.setHold(false)
			m.T.Log(strings.Join(m.taken, ", "))
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
		m.Storage.Fail(nil)
		enginetest.Advance(time.Second)
		if struck.Load() {
			// What a write did that failed is known once the schedule has looked.
			m.check(m.namedAnyhow)
			m.Tick()
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
	m.Storage.Fail(func(op, key string) storagetest.Fault {
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
	m.T.Helper()
	switch what {
	case "hold":
		m.setHold(true)
	case "let go":
		m.setHold(false)
	case "harm":
		if m.mend == nil && len(m.PageKeys()) > 0 {
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
		m.Tick()
	case "an hour":
		m.Hourly(time.Hour)
	case "a day":
		m.Hourly(enginetest.Day)
	default:
		m.request(what)
	}
}

// harm damages a page until it is mended, or written.
func (m *emergency) harm() {
	key := m.LargestPage()
	whole := m.Disk.Value(key)
	m.Damaged = key
	m.Damage()
	damaged := m.Disk.Value(key)
	m.mend = func() {
		if bytes.Equal(damaged, m.Disk.Value(key)) {
			m.Disk.Set(key, whole)
		}
	}
}

func (m *emergency) setHold(hold bool) {
	for ; !hold && m.held > 0; m.held-- {
		m.Engine.Pages.Release()
	}
	for hold && m.held < 32 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		err := m.Engine.Pages.Acquire(ctx)
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
		m.Crash()
	} else {
		m.Close()
	}
	if m.random.IntN(2) == 0 {
		m.Disk.RestartVault()
	}
	m.Oracle = m.On(enginetest.OpenMount(m.T, m.Disk, 0, storagetest.None))
	enginetest.Advance(time.Second)
}

// request makes a request of anybody.
func (m *emergency) request(what string) {
	paused := strings.HasSuffix(what, "include paused")
	var err error
	switch what {
	case "all", "all include paused":
		_, err = m.Call(enginetest.Update, "rotations", map[string]any{"all": true, "reason": enginetest.ReasonAsked, "include_paused": paused})
		m.asked(err, paused)
	case "named", "named include paused":
		_, err = m.Call(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantID}, "reason": enginetest.ReasonAsked, "include_paused": paused})
		m.asked(err, paused)
	case "rotate":
		_, _ = m.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
	case "cancel", "retry", "pause", "resume":
		if r := m.known(); r != nil && r.Rotation != nil {
			_, _ = m.Call(enginetest.Update, enginetest.Action(r.Rotation.ID, what), nil)
		} else if r != nil && r.Last != nil {
			_, _ = m.Call(enginetest.Update, enginetest.Action(r.Last.ID, what), nil)
		}
	case "pause tenant", "un-pause tenant":
		_, _ = m.Call(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_paused": what == "pause tenant", "must_exist": true})
	case "delete":
		_, _ = m.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "720h"})
	case "restore":
		_, _ = m.Call(enginetest.Update, enginetest.TenantPath("/restore"), nil)
	case "shred":
		m.owed = nil // whatever comes of it: it is tried to the end
		_, _ = m.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		m.Storage.Fail(nil)
		_, _ = m.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		m.Tick()
		m.mend = nil
		for item := range m.Allowed {
			m.Allowed[item] = []string{enginetest.Absent}
		}
	case "create":
		_, _ = m.Call(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Put("bulk/1", fmt.Sprint("after ", len(m.taken)))
	}
}

// asked notes an acknowledged request, if there is a tenant that it concerns.
func (m *emergency) asked(err error, includePaused bool) {
	if err == nil && m.known() != nil {
		m.owed = append(m.owed, demand{time.Now(), includePaused})
		enginetest.Advance(time.Millisecond)
	}
}

// end removes all that holds the tenant back: then it is rotated.
func (m *emergency) end() {
	m.T.Helper()
	m.taken = append(m.taken, "END")
	m.setHold(false)
	m.do("mend")
	m.reopen(true)
	m.Hourly(time.Hour)
	if r := m.known(); r != nil {
		_, _ = m.Call(enginetest.Update, enginetest.TenantPath("/restore"), nil)
		_, err := m.Call(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_paused": false})
		require.NoError(m.T, err)
		if r.Rotation != nil {
			_, _ = m.Call(enginetest.Update, enginetest.Action(r.Rotation.ID, "resume"), nil)
		}
		m.Daily(33 * enginetest.Day) // the longest back-off
		m.check(func(*tenant.Record) {})
		require.Empty(m.T, m.owed, "asked for, acknowledged and forgotten")
		require.Equal(m.T, 0, m.Must(enginetest.Read, "status", nil)["overdue"])
		n := len(m.RotationsOf(enginetest.TenantID))
		m.Hourly(2 * enginetest.Day)
		require.Len(m.T, m.RotationsOf(enginetest.TenantID), n, "once is enough")
		m.ReadsBack()
	}
	m.Close()
}
