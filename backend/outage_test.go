// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// logged is what an engine logs, at Vault's usual level.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: l})
}

// lines are those that contain a text.
func (l *logged) lines(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// unfinished leaves a tenant with a rotation that has moved no page, as a crash does.
func unfinished(t *testing.T) *witness {
	t.Helper()
	w := filled(t, 25)
	<-w.b.Pages.Request() // no page is moved
	w.rotate()
	w.crash()
	return w
}

// ticks lets time pass with Vault's tick every minute.
func (m *mount) ticks(n int) {
	for range n {
		m.tick()
	}
}

// Where Vault says that the node must not write, the engine does nothing by itself:
// not even read.
func TestNoWorkWhereItMustNotWrite(t *testing.T) {
	for name, state := range map[string]consts.ReplicationState{
		"performance standby":   consts.ReplicationPerformanceStandby,
		"performance secondary": consts.ReplicationPerformanceSecondary,
		"disaster recovery":     consts.ReplicationDRSecondary,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := unfinished(t)
				var log logged
				m := conditions{log: log.logger(), system: logical.StaticSystemView{ReplicationStateVal: state}}.
					engine(t, w.disk, 0, storagetest.None)
				defer m.close()
				m.start()
				for range 60 {
					require.NoError(t, m.b.PeriodicFunc(t.Context(), nil))
					advance(time.Minute)
				}
				require.Zero(t, m.storage.Ops())
				require.Empty(t, log.lines(""))
			})
		})
	}
}

// Storage that can only be read, though Vault does not say so: work waits for the
// next tick, and one line in the log says why. When storage can be written again
// everything goes on.
func TestReadOnlyStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unfinished(t)
		var log logged
		m := conditions{log: log.logger()}.engine(t, w.disk, 0, storagetest.None)
		w = w.on(m)
		defer w.close()
		m.storage.Outage(errors.New("rpc error: "+logical.ErrReadOnly.Error()), false) // as gRPC brings it
		m.start()
		w.ticks(60)
		w.readsBack()
		require.Len(t, log.lines("[WARN]"), 1, "in an hour")
		require.Empty(t, log.lines("[ERROR]"))
		require.Less(t, m.storage.Ops(), 60*100)

		m.storage.Outage(nil, false)
		w.ticks(2)
		require.Equal(t, "completed", w.status(w.rotations[0])["status"])
		w.readsBack()
		w.atRest()
	})
}

// Storage that fails altogether, now for a moment and now for hours: work is tried
// again with growing pauses, and goes on within the longest of them.
func TestStorageThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unfinished(t)
		var log logged
		m := conditions{log: log.logger()}.engine(t, w.disk, 0, storagetest.None)
		w = w.on(m)
		defer w.close()
		m.storage.Outage(storagetest.ErrInjected, true)
		m.start()
		for _, outage := range []time.Duration{time.Second, time.Minute, 3 * time.Hour} {
			m.storage.Outage(storagetest.ErrInjected, true)
			before := m.storage.Ops()
			for end := time.Now().Add(outage); time.Now().Before(end); {
				m.tick()
			}
			require.Less(t, m.storage.Ops()-before, 60+int(outage.Minutes())*15, "operations in %s", outage)
			m.storage.Outage(nil, false)
			// A little gets done before storage fails again.
			m.onPage("put", func() { m.storage.Outage(storagetest.ErrInjected, true) })
			advance(jobs.MaxPause + time.Second)
			m.storage.Hook(nil)
		}
		require.NotEmpty(t, log.lines("trying again"))
		require.Equal(t, "in_progress", func() any {
			m.storage.Outage(nil, false)
			return w.status(w.rotations[0])["status"]
		}())
		advance(jobs.MaxPause + time.Second)
		require.Equal(t, "completed", w.status(w.rotations[0])["status"])
		w.readsBack()
		w.atRest()
	})
}

// Storage whose operations do not come back: starting, Vault's tick and stopping
// do not wait for them, or not for long. Seal and step-down wait for these. The
// time is real: who waits for a lock does not let a fake clock go on.
func TestStorageThatHangs(t *testing.T) {
	for _, at := range []string{"get pages/", "list pages/", "put pages/", "put tenants/", "delete keys/", "get ", "list ", "put "} {
		t.Run(at, func(t *testing.T) {
			t.Parallel() // each takes as long as stopping may
			w := unfinished(t)
			w = w.on(conditions{}.engine(t, w.disk, 0, storagetest.None))
			hangs, forever := make(chan struct{}, 1000), make(chan struct{})
			w.storage.Hook(func(op, key string) {
				if strings.HasPrefix(op+" "+key, at) {
					hangs <- struct{}{}
					<-forever
				}
			})
			within := func(limit time.Duration, f func()) {
				began := time.Now()
				f()
				require.Less(t, time.Since(began), limit)
			}
			const atOnce = 2 * time.Second // on a busy machine
			within(atOnce, func() { w.start() })
			<-hangs
			within(atOnce, func() { require.NoError(t, w.b.PeriodicFunc(context.Background(), nil)) })
			within(atOnce, func() { require.Error(t, w.b.WALRollback(context.Background(), nil, "rotation", nil)) })
			within(jobs.StopWithin+atOnce, func() { w.b.Cleanup(context.Background()) })

			w.storage.Kill()
			close(forever)
			w = w.on(openMount(t, w.disk, 0, storagetest.None))
			defer w.close()
			w.untilOver()
			require.Equal(t, "completed", w.status(w.rotations[0])["status"])
			w.readsBack()
			w.atRest()
		})
	}
}

// Storage that takes seconds for everything: a rotation takes its time, and
// stopping does not wait for it.
func TestSlowStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unfinished(t)
		w = w.on(conditions{}.engine(t, w.disk, 0, storagetest.None))
		w.storage.Hook(func(string, string) { <-time.After(3 * time.Second) })
		w.start()
		for len(w.pagesOnDisk()) == 1 {
			advance(time.Second)
		}
		began := time.Now()
		w.close()
		require.LessOrEqual(t, time.Since(began), jobs.StopWithin)
		require.Len(t, w.pagesOnDisk(), 2, "it has begun and is not over")

		w = w.on(openMount(t, w.disk, 0, storagetest.None))
		defer w.close()
		w.storage.Hook(func(string, string) { <-time.After(time.Second) })
		advance(30 * time.Minute)
		w.storage.Hook(nil)
		require.Equal(t, "completed", w.status(w.rotations[0])["status"])
		w.readsBack()
		w.atRest()
	})
}
