// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// TestRandomFaults makes random changes of a tenant of a few pages while writes of
// them fail, rotations come and are cancelled, the process dies, Vault's cache drops
// what it hid, and readers are slow between their looks at storage. Every reader is
// shown what was acknowledged before it began, or something begun since; in the end
// all that was acknowledged is there.
func TestRandomFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &disturbed{Oracle: enginetest.Filled(t, rapid.IntRange(4, 20).Draw(rt, "items"))}
			m.Must(enginetest.Update, "config", map[string]any{
				"retired_key_retention": rapid.SampledFrom([]string{"0s", "1h", "168h"}).Draw(rt, "retention"),
			})
			actions := map[string]func(*rapid.T){
				"put": m.change, "put once more": m.change, "and again": m.change,
				"remove": func(rt *rapid.T) { m.Remove(m.item(rt)) },
				"bulk":   func(rt *rapid.T) { m.Bulk(rapid.IntRange(1, 12).Draw(rt, "n"), m.size(rt)) },
				"repeat": m.repeat,
				"rotate": func(*rapid.T) { m.Rotate() },
				"cancel": m.cancelMidSweep,
				"wait":   m.wait,
				"read":   m.beginReading,
				"answer": m.endReading,
				"crash":  m.restart,
				"forget": m.forget,
			}
			for name, act := range actions {
				actions[name] = func(rt *rapid.T) { m.disturb(rt, act) }
			}
			rt.Repeat(actions)
			m.end()
		})
	})
}

// disturbed is a tenant that random things are done to.
type disturbed struct {
	*enginetest.Oracle
	readers []*slowReader
	changes int
}

// slowReader has begun to read an item and is stopped at storage.
type slowReader struct {
	item    string
	allowed []string // all that was, since it began
	answer  chan enginetest.Answered
	goOn    chan struct{}
}

// disturb acts, mostly, while nothing fails; else the next write of a page, a delta,
// or either does.
func (m *disturbed) disturb(rt *rapid.T, act func(*rapid.T)) {
	fault := rapid.SampledFrom([]storagetest.Fault{
		storagetest.None, storagetest.None, storagetest.None, storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.AfterStale,
	}).Draw(rt, "fault")
	of := rapid.SampledFrom([]string{"/p", "/d", "/"}).Draw(rt, "of")
	var struck atomic.Bool
	m.Storage.Fail(func(op, key string) storagetest.Fault {
		writes := op == "put" || op == "delete"
		if writes && strings.HasPrefix(key, "pages/") && strings.Contains(key, of) && struck.CompareAndSwap(false, true) {
			return fault
		}
		return storagetest.None
	})
	act(rt)
	m.Storage.Fail(nil)
	for _, r := range m.readers {
		r.allowed = append(r.allowed, m.Allowed[r.item]...)
	}
}

func (m *disturbed) item(rt *rapid.T) string {
	kind := rapid.SampledFrom([]string{"bulk", "bulk", "bulk", "new"}).Draw(rt, "which")
	item := fmt.Sprintf("%s/%d", kind, rapid.IntRange(0, 5).Draw(rt, "number"))
	if len(m.Allowed[item]) == 0 {
		m.Allowed[item] = []string{enginetest.Absent}
	}
	return item
}

func (m *disturbed) size(rt *rapid.T) int {
	return rapid.OneOf(rapid.IntRange(0, 60), rapid.IntRange(0, 60), rapid.IntRange(500, 14_000), rapid.IntRange(20_000, 80_000)).Draw(rt, "size")
}

func (m *disturbed) change(rt *rapid.T) {
	m.changes++
	m.Put(m.item(rt), enginetest.Filler(fmt.Sprint(m.changes), m.size(rt)))
}

// repeat sends what failed once more. This time nothing fails: what it would leave
// is not noted.
func (m *disturbed) repeat(rt *rapid.T) {
	m.Storage.Fail(nil)
	if m.Failed == nil {
		return
	}
	r := *m.Failed
	if !rapid.Bool().Draw(rt, "same ID") {
		r.ID = m.RequestID()
	}
	m.Retry(&r, true)
}

func (m *disturbed) cancelMidSweep(rt *rapid.T) {
	m.MidSweep(func() {
		for range rapid.IntRange(0, 3).Draw(rt, "before") {
			m.change(rt)
		}
		if rapid.Bool().Draw(rt, "really") {
			m.Act("cancel", "rolled_back")
		}
		for range rapid.IntRange(0, 2).Draw(rt, "after") {
			m.change(rt)
		}
	})
}

func (*disturbed) wait(rt *rapid.T) {
	enginetest.Advance(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, 2 * time.Hour}).Draw(rt, "for"))
}

// forget lets the engine drop what it has in memory of the tenant's pages.
func (m *disturbed) forget(*rapid.T) {
	for _, key := range m.Disk.Keys("pages/") {
		m.Engine.InvalidateKey(context.Background(), key)
	}
}

// beginReading has a reader stop before, or after, one of its looks at storage. All
// else waits meanwhile for the time to pass.
func (m *disturbed) beginReading(rt *rapid.T) {
	item := m.item(rt)
	if len(m.readers) == 3 {
		return
	}
	if rapid.Bool().Draw(rt, "forgotten") {
		m.forget(rt)
	}
	synctest.Wait()
	r := &slowReader{item: item, allowed: slices.Clone(m.Allowed[item]), goOn: make(chan struct{})}
	var looks atomic.Int64
	stopAt := int64(rapid.IntRange(1, 2).Draw(rt, "look"))
	hook := func(op, key string) {
		if op == "get" && strings.HasPrefix(key, "pages/") && looks.Add(1) == stopAt {
			<-r.goOn
		}
	}
	if rapid.Bool().Draw(rt, "after it") {
		m.Storage.Done(hook)
	} else {
		m.Storage.Hook(hook)
	}
	r.answer = m.Concurrently(enginetest.Read, enginetest.ItemPath(item), nil)
	synctest.Wait()
	m.Storage.Hook(nil)
	m.Storage.Done(nil)
	m.readers = append(m.readers, r)
}

func (m *disturbed) endReading(*rapid.T) {
	if len(m.readers) == 0 {
		return
	}
	r := m.readers[0]
	m.readers = m.readers[1:]
	close(r.goOn)
	got := <-r.answer
	value := enginetest.Absent
	switch enginetest.Code(got.Resp, got.Err) {
	case 200:
		value = got.Resp.Data["data"].(map[string]any)["value"].(string)
	case 404:
	default:
		return // it may fail
	}
	if !slices.Contains(r.allowed, value) {
		require.Fail(m.T, "stale", "item %s reads %.20q, allowed %.60q", r.item, value, r.allowed)
	}
}

// restart ends the process, and perhaps Vault's with it.
func (m *disturbed) restart(rt *rapid.T) {
	for range m.readers {
		m.endReading(rt)
	}
	m.Crash()
	if rapid.Bool().Draw(rt, "Vault too") {
		m.Disk.RestartVault()
	}
	m.Oracle = m.On(enginetest.OpenMount(m.T, m.Disk, 0, storagetest.None))
	synctest.Wait()
}

func (m *disturbed) end() {
	for len(m.readers) > 0 {
		m.endReading(nil)
	}
	for id := range m.Ends { // any will do: what was asked for may not have come about
		m.Ends[id] = []string{"completed", "rolled_back", "failed"}
	}
	m.Rest()
	m.ReadsBack()
	m.Close()
	m.Disk.RestartVault()
	m.Oracle = m.On(enginetest.OpenMount(m.T, m.Disk, 0, storagetest.None))
	m.Rest()
	m.ReadsBack()
	m.AtRest()
	m.Works()
	m.Close()
}
