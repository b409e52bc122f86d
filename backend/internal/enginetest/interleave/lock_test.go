// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

// The tests of this file show what the tenant's shared lock is for, held from
// reading the record until the Put, or the answer: where no lock of a page stands
// in for it.

// stopKth stops the kth operation on storage from now; reached is closed when it
// has come there, and goOn lets it go on.
func stopKth(m *enginetest.Mount, k int) (reached chan struct{}, goOn func()) {
	reached, on := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	m.Storage.Hook(func(string, string) {
		if n.Add(1) == int64(k) {
			close(reached)
			<-on
		}
	})
	return reached, func() { close(on) }
}

// meantime lets act run as far as locks allow while something is stopped, and
// reports whether it came to its end. wait waits for that.
func meantime(w *enginetest.Oracle, act func(*enginetest.Oracle)) (ended bool, wait func()) {
	w.Storage.Hook(nil)
	acted := make(chan struct{})
	go func() {
		defer close(acted)
		act(w)
	}()
	w.Quiet(acted)
	select {
	case <-acted:
		ended = true
	default:
	}
	return ended, func() { <-acted }
}

// A tenant's first write has no page whose lock a rotation would wait for.
func TestStalledFirstWrite(t *testing.T) {
	for name, act := range map[string]func(*enginetest.Oracle){
		"a rotation":    func(w *enginetest.Oracle) { rotateToTheEnd(w) },
		"two rotations": func(w *enginetest.Oracle) { rotateToTheEnd(w); rotateToTheEnd(w) },
		"a deletion": func(w *enginetest.Oracle) {
			_, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
			require.NoError(w.T, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for k := 1; ; k++ {
				m := enginetest.WithTenant(t)
				enginetest.Slowly(m)
				w := enginetest.NewOracle(m)
				w.Quiesce()
				reached, goOn := stopKth(w.Mount, k)
				written := w.Concurrently(enginetest.Update, enginetest.ItemPath("first"), enginetest.Secret("precious"))
				select {
				case got := <-written:
					require.NoError(t, got.Err)
					require.Greater(t, k, 2)
					return
				case <-reached:
				}
				_, wait := meantime(w, act)
				goOn()
				got := <-written
				wait()
				w.UntilOver()
				if !w.Exists() {
					require.Empty(t, w.Disk.Keys("pages/"), "of a tenant that is gone")
					continue
				}
				require.NoError(t, got.Err)
				w.Allowed["first"] = []string{"precious"}
				w.ReadsBack()
				w.AtRest()
			}
		})
	}
}

// A worker that has read the record writes its page before the tenant goes, and not
// after.
func TestStalledSweepBesideADeletion(t *testing.T) {
	for k := 1; ; k++ {
		w := enginetest.SmallTenant(t)
		w.Quiesce()
		<-w.Engine.Pages.Request()
		w.Rotate()
		reached, goOn := stopKth(w.Mount, k)
		w.Engine.Pages.Release()
		over := make(chan struct{})
		go func() {
			w.UntilOver()
			close(over)
		}()
		select {
		case <-over:
			require.Greater(t, k, 3)
			return
		case <-reached:
		}
		_, wait := meantime(w, func(w *enginetest.Oracle) {
			_, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
			require.NoError(w.T, err)
		})
		goOn()
		wait()
		<-over
		w.Created = false
		require.Eventually(t, func() bool { return !w.Exists() }, time.Minute, time.Millisecond)
		w.Close()
		require.Empty(t, w.Disk.Keys("pages/"), "written after the tenant had gone")
		require.Empty(t, w.Disk.Keys("progress/"))
	}
}

// Nothing is answered that was sealed by a version whose destruction has been
// acknowledged. Counting the seals of a key writes to storage before the answer.
func TestStalledSealBesideADestroy(t *testing.T) {
	for k := 1; ; k++ {
		m := enginetest.NewMount(t)
		m.LimitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: 1 << 20, Hard: 1 << 21})
		enginetest.Slowly(m)
		w := enginetest.NewOracle(m)
		w.CreateAES()
		w.Encrypt("before")
		w.Quiesce()
		reached, goOn := stopKth(w.Mount, k)
		sealing := w.Concurrently(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": enginetest.Encoded("stalled")})
		select {
		case got := <-sealing:
			require.NoError(t, got.Err)
			require.Greater(t, k, 1, "nothing is written while it is sealed")
			w.Close()
			return
		case <-reached:
		}
		destroyed, wait := meantime(w, func(w *enginetest.Oracle) {
			rotateToTheEnd(w)
			w.Destroy(1, true)
		})
		goOn()
		got := <-sealing
		wait()
		if destroyed && got.Err == nil {
			require.NotEqual(t, 1, got.Resp.Data["key_version"], "sealed by a version that was destroyed")
		}
		w.Close()
	}
}
