// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// unfinished leaves a tenant with a rotation that has moved no page, as a crash does.
func unfinished(t *testing.T) *enginetest.Oracle {
	t.Helper()
	w := enginetest.Filled(t, 25)
	<-w.Engine.Pages.Request() // no page is moved
	w.Rotate()
	w.Crash()
	return w
}

// ticks lets time pass with Vault's tick every minute.
func ticks(m *enginetest.Mount, n int) {
	for range n {
		m.Tick()
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
				var log enginetest.Logged
				m := enginetest.Conditions{Log: log.Logger(), System: logical.StaticSystemView{ReplicationStateVal: state}}.
					Open(t, w.Disk, 0, storagetest.None)
				defer m.Close()
				m.Start()
				for range 60 {
					require.NoError(t, m.Engine.PeriodicFunc(t.Context(), nil))
					enginetest.Advance(time.Minute)
				}
				require.Zero(t, m.Storage.Ops())
				require.Empty(t, log.Lines(""))
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
		var log enginetest.Logged
		m := enginetest.Conditions{Log: log.Logger()}.Open(t, w.Disk, 0, storagetest.None)
		w = w.On(m)
		defer w.Close()
		m.Storage.Outage(errors.New("rpc error: "+logical.ErrReadOnly.Error()), false) // as gRPC brings it
		m.Start()
		ticks(w.Mount, 60)
		w.ReadsBack()
		require.Len(t, log.Lines("[WARN]"), 1, "in an hour")
		require.Empty(t, log.Lines("[ERROR]"))
		require.Less(t, m.Storage.Ops(), 60*100)

		m.Storage.Outage(nil, false)
		ticks(w.Mount, 2)
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		w.ReadsBack()
		w.AtRest()
	})
}

// Storage that fails altogether, now for a moment and now for hours: work is tried
// again with growing pauses, and goes on within the longest of them.
func TestStorageThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unfinished(t)
		var log enginetest.Logged
		m := enginetest.Conditions{Log: log.Logger()}.Open(t, w.Disk, 0, storagetest.None)
		w = w.On(m)
		defer w.Close()
		m.Storage.Outage(storagetest.ErrInjected, true)
		m.Start()
		for _, outage := range []time.Duration{time.Second, time.Minute, 3 * time.Hour} {
			m.Storage.Outage(storagetest.ErrInjected, true)
			before := m.Storage.Ops()
			for end := time.Now().Add(outage); time.Now().Before(end); {
				m.Tick()
			}
			require.Less(t, m.Storage.Ops()-before, 90+int(outage.Minutes())*35, "operations in %s", outage)
			m.Storage.Outage(nil, false)
			// A little gets done before storage fails again.
			m.OnPage("put", func() { m.Storage.Outage(storagetest.ErrInjected, true) })
			enginetest.Advance(jobs.MaxPause + time.Second)
			m.Storage.Hook(nil)
		}
		require.NotEmpty(t, log.Lines("trying again"))
		require.Equal(t, "in_progress", func() any {
			m.Storage.Outage(nil, false)
			return w.Status(w.Rotations[0])["status"]
		}())
		enginetest.Advance(jobs.MaxPause + time.Second)
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		w.ReadsBack()
		w.AtRest()
	})
}

// Storage whose operations do not come back: starting, Vault's tick and stopping
// do not wait for them, or not for long. Seal and step-down wait for these. The
// time is real: who waits for a lock does not let a fake clock go on.
func TestStorageThatHangs(t *testing.T) {
	for _, at := range []string{"get pages/", "list pages/", "put pages/", "put tenants/", "delete keys/", "get ", "list ", "put "} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := unfinished(t)
				w = w.On(enginetest.Conditions{}.Open(t, w.Disk, 0, storagetest.None))
				var hangs atomic.Bool
				forever := make(chan struct{})
				w.Storage.Hook(func(op, key string) {
					if strings.HasPrefix(op+" "+key, at) {
						hangs.Store(true)
						<-forever
					}
				})
				within := func(limit time.Duration, f func()) {
					began := time.Now()
					f()
					require.LessOrEqual(t, time.Since(began), limit)
				}
				within(0, func() { w.Start() })
				enginetest.Advance(time.Second)
				require.True(t, hangs.Load())
				within(0, func() { w.Must(logical.RollbackOperation, "", nil) }) // Vault holds its state lock meanwhile
				within(jobs.StopWithin, func() { w.Engine.Cleanup(context.Background()) })

				w.Storage.Kill()
				close(forever)
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				defer w.Close()
				enginetest.Advance(time.Minute)
				require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
				w.ReadsBack()
				w.AtRest()
			})
		})
	}
}

// Storage that takes seconds for everything: a rotation takes its time, and
// stopping does not wait for it.
func TestSlowStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unfinished(t)
		w = w.On(enginetest.Conditions{}.Open(t, w.Disk, 0, storagetest.None))
		w.Storage.Hook(func(string, string) { <-time.After(3 * time.Second) })
		w.Start()
		for len(w.PagesOnDisk()) == 1 {
			enginetest.Advance(time.Second)
		}
		began := time.Now()
		w.Close()
		require.LessOrEqual(t, time.Since(began), jobs.StopWithin)
		require.Len(t, w.PagesOnDisk(), 2, "it has begun and is not over")

		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		defer w.Close()
		w.Storage.Hook(func(string, string) { <-time.After(time.Second) })
		enginetest.Advance(30 * time.Minute)
		w.Storage.Hook(nil)
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		w.ReadsBack()
		w.AtRest()
	})
}
