// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// failRecord lets the next n writes of a tenant's record fail with effect, while
// Vault's cache goes on showing the old one. It returns how many are left.
func failRecord(m *enginetest.Mount, n int) (left *int) {
	left = &n
	m.Storage.Fail(func(op, key string) storagetest.Fault {
		if op != "put" || !strings.HasPrefix(key, "tenants/") || *left == 0 {
			return storagetest.None
		}
		*left--
		return storagetest.AfterStale
	})
	return left
}

// A start tries to put the record three times. If each fails with effect behind a
// stale cache, the rotation has started and nothing that can be read says so.
// Whoever undoes it must first make sure of the record that it believes.
func TestStartThatFailsEveryTimeWithEffect(t *testing.T) {
	for name, c := range map[string]struct {
		failures int
		crash    bool
	}{
		"and is undone":                       {failures: 3},
		"and whose undoing fails with effect": {failures: 6},
		"before a crash":                      {failures: 3, crash: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.Filled(t, 8)
				left := failRecord(w.Mount, c.failures)
				w.Rotate()
				require.NotNil(t, w.Failed, "the start is to fail")
				require.Empty(t, w.Rotations)
				if c.crash {
					w.Crash()
					w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				}
				enginetest.Advance(time.Minute)
				require.Zero(t, *left)
				w.ReadsBack()
				w.Close()

				w.Disk.RestartVault() // now the record on disk is what is read
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				defer w.Close()
				w.Rest()
				w.ReadsBack()
				w.AtRest()
				w.Works()
			})
		})
	}
}

// A change of the record that failed with effect behind a stale cache is served once
// the record shows: after a restart, or, without one, when the schedule reads the
// records again, a day later at most.
func TestHiddenChangeIsServed(t *testing.T) {
	rotated := func(w *enginetest.Oracle) bool { return len(w.RotationsOf(enginetest.TenantID)) == 1 }
	for name, c := range map[string]struct {
		change func(*enginetest.Oracle)
		wait   time.Duration
		served func(*enginetest.Oracle) bool
	}{
		"an interval of its own": {func(w *enginetest.Oracle) {
			_, _ = w.Call(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": "90_DAYS"})
		}, 91 * enginetest.Day, rotated},
		"a request for a rotation": {func(w *enginetest.Oracle) {
			_, _ = w.Call(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantID}})
		}, enginetest.Day, rotated},
		"a deletion": {func(w *enginetest.Oracle) {
			_, _ = w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "24h"})
		}, 2 * enginetest.Day, func(w *enginetest.Oracle) bool { return len(w.Disk.Keys("tenants/")) == 0 }},
	} {
		hidden := func(t *testing.T) *enginetest.Oracle {
			t.Helper()
			w := enginetest.Filled(t, 4)
			w.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
			left := failRecord(w.Mount, 1)
			c.change(w)
			w.Storage.Fail(nil)
			require.Zero(t, *left, "the change is to fail")
			enginetest.Advance(c.wait)
			w.Tick()
			require.False(t, c.served(w), "nobody sees the change")
			return w
		}
		t.Run(name+", after a restart", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hidden(t)
				w.Close()
				w.Disk.RestartVault()
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				defer w.Close()
				w.Tick()
				enginetest.Advance(time.Minute)
				require.True(t, c.served(w))
			})
		})
		t.Run(name+", in time", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hidden(t)
				defer w.Close()
				w.Disk.RestartVault() // the cache shows what is stored
				w.Hourly(25 * time.Hour)
				require.True(t, c.served(w))
			})
		})
	}
	t.Run("a creation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := enginetest.NewOracle(enginetest.NewMount(t))
			failRecord(w.Mount, 1)
			w.Create()
			require.False(t, w.Created, "the creation is to fail")
			w.Storage.Fail(nil)
			enginetest.Advance(367 * enginetest.Day)
			w.Tick()
			w.Close()
			w.Disk.RestartVault()
			w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
			defer w.Close()
			w.Create()
			w.AtRest()
		})
	})
}
