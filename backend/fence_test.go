// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// failRecord lets the next n writes of a tenant's record fail with effect, while
// Vault's cache goes on showing the old one. It returns how many are left.
func (m *mount) failRecord(n int) (left *int) {
	left = &n
	m.storage.Fail(func(op, key string) storagetest.Fault {
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
				w := filled(t, 8)
				left := w.failRecord(c.failures)
				w.rotate()
				require.NotNil(t, w.failed, "the start is to fail")
				require.Empty(t, w.rotations)
				if c.crash {
					w.crash()
					w = w.on(openMount(t, w.disk, 0, storagetest.None))
				}
				advance(time.Minute)
				require.Zero(t, *left)
				w.readsBack()
				w.close()

				w.disk.RestartVault() // now the record on disk is what is read
				w = w.on(openMount(t, w.disk, 0, storagetest.None))
				defer w.close()
				w.rest()
				w.readsBack()
				w.atRest()
				w.works()
			})
		})
	}
}

// A change of the record that failed with effect behind a stale cache is served once
// the record shows: after a restart, or, without one, when the schedule reads the
// records again, a day later at most.
func TestHiddenChangeIsServed(t *testing.T) {
	rotated := func(w *witness) bool { return len(w.rotationsOf(testTenant)) == 1 }
	for name, c := range map[string]struct {
		change func(*witness)
		wait   time.Duration
		served func(*witness) bool
	}{
		"an interval of its own": {func(w *witness) {
			_, _ = w.call(update, tenantPath(""), map[string]any{"rotation_interval": "90_DAYS"})
		}, 91 * day, rotated},
		"a request for a rotation": {func(w *witness) {
			_, _ = w.call(update, "rotations", map[string]any{"tenants": []any{testTenant}})
		}, day, rotated},
		"a deletion": {func(w *witness) {
			_, _ = w.call(del, tenantPath(""), map[string]any{"deletion_window": "24h"})
		}, 2 * day, func(w *witness) bool { return len(w.disk.Keys("tenants/")) == 0 }},
	} {
		hidden := func(t *testing.T) *witness {
			t.Helper()
			w := filled(t, 4)
			w.must(update, "config", map[string]any{"scheduler_jitter": 0})
			left := w.failRecord(1)
			c.change(w)
			w.storage.Fail(nil)
			require.Zero(t, *left, "the change is to fail")
			advance(c.wait)
			w.tick()
			require.False(t, c.served(w), "nobody sees the change")
			return w
		}
		t.Run(name+", after a restart", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hidden(t)
				w.close()
				w.disk.RestartVault()
				w = w.on(openMount(t, w.disk, 0, storagetest.None))
				defer w.close()
				w.tick()
				advance(time.Minute)
				require.True(t, c.served(w))
			})
		})
		t.Run(name+", in time", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hidden(t)
				defer w.close()
				w.disk.RestartVault() // the cache shows what is stored
				w.hourly(25 * time.Hour)
				require.True(t, c.served(w))
			})
		})
	}
	t.Run("a creation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWitness(newMount(t))
			w.failRecord(1)
			w.create()
			require.False(t, w.created, "the creation is to fail")
			w.storage.Fail(nil)
			advance(367 * day)
			w.tick()
			w.close()
			w.disk.RestartVault()
			w = w.on(openMount(t, w.disk, 0, storagetest.None))
			defer w.close()
			w.create()
			w.atRest()
		})
	})
}
