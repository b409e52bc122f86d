// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// followed is a tenant whose external keys go as its holders report. Version 1 has sealed
// a text and was rotated away a lease ago.
type followed struct {
	*enginetest.Oracle
	text string // of version 1
}

const (
	lease     = time.Hour
	retention = 100 * time.Hour
)

// withHolders runs f with a tenant and its holders, on a mount with a retention.
func withHolders(t *testing.T, holders []string, f func(*followed)) {
	t.Helper()
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "100h"})
		w := &followed{Oracle: enginetest.NewOracle(m)}
		w.Created = true
		w.text = m.Encrypted(enginetest.TenantID, "x")
		for _, name := range holders {
			m.Must(enginetest.Update, enginetest.HolderPath(name), nil)
		}
		w.config(map[string]any{"follow_holders": true})
		m.Rotated(nil)
		enginetest.Advance(lease)
		f(w)
	})
}

func (w *followed) config(data map[string]any) map[string]any {
	w.T.Helper()
	return w.Must(enginetest.Update, enginetest.TenantPath("/dek/config"), data)
}

// scan begins to search a holder's place.
func (w *followed) scan(name string) any {
	w.T.Helper()
	return w.Must(enginetest.Update, enginetest.HolderPath(name+"/report/start"), nil)["scan_started_at"]
}

func (w *followed) report(name string, oldest int, scan any) {
	w.T.Helper()
	w.Must(enginetest.Update, enginetest.HolderPath(name+"/report"), map[string]any{"oldest_version": oldest, "scan_started_at": scan})
}

// gone reports that a place holds nothing of version 1.
func (w *followed) gone(name string) {
	w.T.Helper()
	w.report(name, 2, w.scan(name))
}

// after lets time pass, with Vault's tick.
func (w *followed) after(d time.Duration) {
	w.T.Helper()
	enginetest.Advance(d)
	w.Tick()
	enginetest.Advance(time.Minute)
}

func (w *followed) state() string {
	w.T.Helper()
	return w.VersionList()[0]["state"].(string)
}

// kept requires that the text of version 1 is still openable a long time later, without
// opening it before.
func (w *followed) kept() {
	w.T.Helper()
	w.after(10 * retention)
	require.Equal(w.T, "deactivated", w.state())
	require.Equal(w.T, true, w.VersionList()[0]["external_use"])
	w.OpensTo("x", w.text)
}

func TestExternalKeyGoesOnceEveryHolderHasReported(t *testing.T) {
	withHolders(t, []string{"a", "b"}, func(w *followed) {
		w.gone("a")
		require.Nil(t, w.VersionList()[0]["external_key_destroy_after"], "b has not reported")
		w.gone("b")
		reported := time.Now()
		require.Equal(t, reported.Add(retention).UTC().Format(time.RFC3339Nano), w.VersionList()[0]["external_key_destroy_after"])
		w.after(retention - 2*time.Minute)
		require.Equal(t, "deactivated", w.state(), "before the retention has passed")
		w.after(2 * time.Minute)
		v := w.VersionList()[0]
		require.Equal(t, []any{"destroyed", false}, []any{v["state"], v["external_use"]})
		require.NotNil(t, v["external_key_destroyed_at"])
		require.Empty(t, w.Disk.Keys("keys/"+w.Record().Incarnation+"/"+v["key_id"].(string)))
		require.Equal(t, 2, w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["min_decryption_version"])
		w.Refused(400, "destroyed", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": w.text})
		w.Refused(400, "destroyed", enginetest.Update, enginetest.HolderPath("a/report"), map[string]any{"oldest_version": 1})
	})
}

func TestExternalKeyGoesAtOnceWithoutRetention(t *testing.T) {
	withHolders(t, []string{"a"}, func(w *followed) {
		w.DestroyAtOnce()
		w.after(retention) // its page key's
		enginetest.Advance(300 * time.Millisecond)
		w.gone("a")
		enginetest.Advance(100 * time.Millisecond) // long before the next tick
		require.Equal(t, "destroyed", w.state())
	})
}

// Each case must leave the external key of version 1 where it is.
func TestExternalKeyStays(t *testing.T) {
	for name, act := range map[string]func(*followed){
		"nobody has reported":      func(*followed) {},
		"holders are not followed": func(w *followed) { w.config(map[string]any{"follow_holders": false}); w.gone("a"); w.gone("b") },
		"followed no more":         func(w *followed) { w.gone("a"); w.gone("b"); w.config(map[string]any{"follow_holders": false}) },
		"one has not reported":     func(w *followed) { w.gone("a") },
		"no holder is named":       func(w *followed) { w.gone("a"); w.gone("b"); w.forget("a", "b") },
		"one holds it":             func(w *followed) { w.gone("a"); w.report("b", 1, w.scan("b")) },
		"a report without a scan":  func(w *followed) { w.gone("a"); w.report("b", 2, nil) },
		"a holder is named late": func(w *followed) {
			w.gone("a")
			w.gone("b")
			w.Must(enginetest.Update, enginetest.HolderPath("c"), nil)
		},
		"a lower report later": func(w *followed) { w.gone("a"); w.gone("b"); w.after(retention / 2); w.report("a", 1, nil) },
		"an earlier scan last": func(w *followed) {
			early := w.scan("b")
			w.gone("a")
			enginetest.Advance(time.Minute)
			w.report("b", 1, w.scan("b"))
			w.report("b", 2, early)
		},
		"deleted and named anew": func(w *followed) {
			w.gone("a")
			w.gone("b")
			w.forget("b")
			w.Must(enginetest.Update, enginetest.HolderPath("b"), nil)
		},
		"its configuration is lost": func(w *followed) { w.Disk.Set("config", []byte("{")); w.reopened(); w.gone("a"); w.gone("b") },
	} {
		t.Run(name, func(t *testing.T) {
			withHolders(t, []string{"a", "b"}, func(w *followed) {
				act(w)
				w.kept()
			})
		})
	}
}

func (w *followed) forget(names ...string) {
	w.T.Helper()
	for _, name := range names {
		w.Must(enginetest.Delete, enginetest.HolderPath(name), nil)
	}
}

func (w *followed) reopened() {
	w.Close()
	w.Mount = enginetest.OpenMount(w.T, w.Disk, 0, 0)
}

// A scan that began within the lease of data keys of the version may have missed what is
// sealed under one, or sealed and not stored yet.
func TestAScanThatBeganTooEarlyDoesNotCount(t *testing.T) {
	withHolders(t, []string{"a"}, func(w *followed) {
		w.Encrypted(enginetest.TenantID, "y")
		w.Rotated(nil) // it takes a minute
		enginetest.Advance(lease - 2*time.Minute)
		early := w.scan("a")
		enginetest.Advance(time.Hour)
		w.report("a", 3, early)
		w.after(2 * retention)
		v := w.VersionList()
		require.Equal(t, []any{"destroyed", "deactivated"}, []any{v[0]["state"], v[1]["state"]}, "it counts for version 1 alone")
		w.report("a", 3, w.scan("a"))
		w.after(2 * retention)
		require.Equal(t, "destroyed", w.VersionList()[1]["state"])
	})
}

// A lower lease holds for data keys that are made later: those that are out have theirs.
func TestALoweredLeaseCountsAsItWasAnswered(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		w := &followed{Oracle: enginetest.NewOracle(m)}
		m.Must(enginetest.Update, enginetest.HolderPath("a"), nil)
		w.config(map[string]any{"follow_holders": true})
		m.Must(enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), nil)
		m.Must(enginetest.Update, "config", map[string]any{"data_key_lease": 0})
		m.Rotated(nil)
		w.gone("a")
		w.after(time.Hour)
		require.Equal(t, "deactivated", w.state())
		w.gone("a")
		w.after(time.Minute)
		require.Equal(t, "destroyed", w.state())

		m.Rotated(nil)
		// A version that has become active since has no longer lease.
		m.Encrypted(enginetest.TenantID, "y")
		m.Rotated(nil)
		w.report("a", 4, w.scan("a"))
		w.after(time.Minute)
		require.Equal(t, "destroyed", w.VersionList()[2]["state"])
	})
}

// What is opened, or refused, after all have reported keeps the key for another retention.
func TestAUseKeepsTheKeyForAnotherRetention(t *testing.T) {
	for name, use := range map[string]func(w *followed){
		"opened": func(w *followed) { w.OpensTo("x", w.text) },
		"rewrapped": func(w *followed) {
			w.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": w.text})
		},
		"refused": func(w *followed) {
			w.config(map[string]any{"min_decryption_version": 2})
			_, err := w.Call(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": w.text})
			require.ErrorContains(w.T, err, "below min_decryption_version")
		},
		"does not open": func(w *followed) {
			_, err := w.Call(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": w.text, "associated_data": "eA=="})
			require.ErrorContains(w.T, err, "does not open")
		},
	} {
		t.Run(name, func(t *testing.T) {
			withHolders(t, []string{"a"}, func(w *followed) {
				blocked := func() any {
					return w.Must(enginetest.Read, "status", nil)["blocked_tenants"].(map[string]string)[enginetest.TenantID]
				}
				w.gone("a")
				require.Empty(t, blocked())
				w.after(retention - time.Hour)
				use(w)
				require.Contains(t, blocked(), "reported gone")
				enginetest.Advance(30 * time.Second)
				use(w)
				w.after(retention - 2*time.Minute)
				require.Equal(t, "deactivated", w.state())
				w.after(5 * time.Minute)
				require.Equal(t, "destroyed", w.state())
				require.Empty(t, blocked())
			})
		})
	}
}

// A cancel makes the old version the active one again: what was reported before counts no
// more, and neither does it after the next rotation.
func TestACancelAfterAReport(t *testing.T) {
	withHolders(t, []string{"a"}, func(w *followed) {
		enginetest.Slowly(w.Mount)
		w.Bulk(40, 3000)
		w.Encrypted(enginetest.TenantID, "before")
		var sealed string
		w.MidSweep(func() {
			enginetest.Advance(2 * lease)
			w.report("a", 3, w.scan("a"))
			w.after(retention)
			require.Equal(t, "deactivated", w.VersionList()[1]["state"], "the rotation is unfinished")
			w.Act("cancel", "rolled_back")
			sealed = w.Encrypted(enginetest.TenantID, "after")
		})
		enginetest.Advance(time.Minute)
		w.Rotated(nil)
		w.after(2 * retention)
		require.Equal(t, "deactivated", w.VersionList()[1]["state"])
		w.OpensTo("after", sealed)
	})
}
