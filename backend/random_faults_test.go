// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

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
			m := &disturbed{witness: filled(t, rapid.IntRange(4, 20).Draw(rt, "items"))}
			m.must(update, "config", map[string]any{
				"retired_key_retention": rapid.SampledFrom([]string{"0s", "1h", "168h"}).Draw(rt, "retention"),
			})
			actions := map[string]func(*rapid.T){
				"put": m.change, "put once more": m.change, "and again": m.change,
				"remove": func(rt *rapid.T) { m.remove(m.item(rt)) },
				"bulk":   func(rt *rapid.T) { m.bulk(rapid.IntRange(1, 12).Draw(rt, "n"), m.size(rt)) },
				"repeat": m.repeat,
				"rotate": func(*rapid.T) { m.rotate() },
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
	*witness
	readers []*slowReader
	changes int
}

// slowReader has begun to read an item and is stopped at storage.
type slowReader struct {
	item    string
	allowed []string // all that was, since it began
	answer  chan answered
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
	m.storage.Fail(func(op, key string) storagetest.Fault {
		writes := op == "put" || op == "delete"
		if writes && strings.HasPrefix(key, "pages/") && strings.Contains(key, of) && struck.CompareAndSwap(false, true) {
			return fault
		}
		return storagetest.None
	})
	act(rt)
	m.storage.Fail(nil)
	for _, r := range m.readers {
		r.allowed = append(r.allowed, m.allowed[r.item]...)
	}
}

func (m *disturbed) item(rt *rapid.T) string {
	kind := rapid.SampledFrom([]string{"bulk", "bulk", "bulk", "new"}).Draw(rt, "which")
	item := fmt.Sprintf("%s/%d", kind, rapid.IntRange(0, 5).Draw(rt, "number"))
	if len(m.allowed[item]) == 0 {
		m.allowed[item] = []string{absent}
	}
	return item
}

func (m *disturbed) size(rt *rapid.T) int {
	return rapid.OneOf(rapid.IntRange(0, 60), rapid.IntRange(0, 60), rapid.IntRange(500, 14_000), rapid.IntRange(20_000, 80_000)).Draw(rt, "size")
}

func (m *disturbed) change(rt *rapid.T) {
	m.changes++
	m.put(m.item(rt), filler(fmt.Sprint(m.changes), m.size(rt)))
}

// repeat sends what failed once more. This time nothing fails: what it would leave
// is not noted.
func (m *disturbed) repeat(rt *rapid.T) {
	m.storage.Fail(nil)
	if m.failed == nil {
		return
	}
	r := *m.failed
	if !rapid.Bool().Draw(rt, "same ID") {
		r.id = m.requestID()
	}
	m.again(&r, true)
}

func (m *disturbed) cancelMidSweep(rt *rapid.T) {
	m.midSweep(func() {
		for range rapid.IntRange(0, 3).Draw(rt, "before") {
			m.change(rt)
		}
		if rapid.Bool().Draw(rt, "really") {
			m.act("cancel", "rolled_back")
		}
		for range rapid.IntRange(0, 2).Draw(rt, "after") {
			m.change(rt)
		}
	})
}

func (*disturbed) wait(rt *rapid.T) {
	advance(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, 2 * time.Hour}).Draw(rt, "for"))
}

// forget lets the engine drop what it has in memory of the tenant's pages.
func (m *disturbed) forget(*rapid.T) {
	for _, key := range m.disk.Keys("pages/") {
		m.b.InvalidateKey(context.Background(), key)
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
	r := &slowReader{item: item, allowed: slices.Clone(m.allowed[item]), goOn: make(chan struct{})}
	var looks atomic.Int64
	stopAt := int64(rapid.IntRange(1, 2).Draw(rt, "look"))
	hook := func(op, key string) {
		if op == "get" && strings.HasPrefix(key, "pages/") && looks.Add(1) == stopAt {
			<-r.goOn
		}
	}
	if rapid.Bool().Draw(rt, "after it") {
		m.storage.Done(hook)
	} else {
		m.storage.Hook(hook)
	}
	r.answer = m.beside(read, itemPath(item), nil)
	synctest.Wait()
	m.storage.Hook(nil)
	m.storage.Done(nil)
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
	value := absent
	switch code(got.resp, got.err) {
	case 200:
		value = got.resp.Data["data"].(map[string]any)["value"].(string)
	case 404:
	default:
		return // it may fail
	}
	if !slices.Contains(r.allowed, value) {
		require.Fail(m.t, "stale", "item %s reads %.20q, allowed %.60q", r.item, value, r.allowed)
	}
}

// restart ends the process, and perhaps Vault's with it.
func (m *disturbed) restart(rt *rapid.T) {
	for range m.readers {
		m.endReading(rt)
	}
	m.crash()
	if rapid.Bool().Draw(rt, "Vault too") {
		m.disk.RestartVault()
	}
	m.witness = m.on(openMount(m.t, m.disk, 0, storagetest.None))
	synctest.Wait()
}

func (m *disturbed) end() {
	for len(m.readers) > 0 {
		m.endReading(nil)
	}
	for id := range m.ends { // any will do: what was asked for may not have come about
		m.ends[id] = []string{"completed", "rolled_back", "failed"}
	}
	m.rest()
	m.readsBack()
	m.close()
	m.disk.RestartVault()
	m.witness = m.on(openMount(m.t, m.disk, 0, storagetest.None))
	m.rest()
	m.readsBack()
	m.atRest()
	m.works()
	m.close()
}
