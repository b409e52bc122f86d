// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

// The tests of this file show what the tenant's shared lock is for, held from
// reading the record until the Put, or the answer: where no lock of a page stands
// in for it.

// stopKth stops the kth operation on storage from now; reached is closed when it
// has come there, and goOn lets it go on.
func (m *mount) stopKth(k int) (reached chan struct{}, goOn func()) {
	reached, on := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	m.storage.Hook(func(string, string) {
		if n.Add(1) == int64(k) {
			close(reached)
			<-on
		}
	})
	return reached, func() { close(on) }
}

// meantime lets act run as far as locks allow while something is stopped, and
// reports whether it came to its end. wait waits for that.
func (w *witness) meantime(act func(*witness)) (ended bool, wait func()) {
	w.storage.Hook(nil)
	acted := make(chan struct{})
	go func() {
		defer close(acted)
		act(w)
	}()
	w.quiet(acted)
	select {
	case <-acted:
		ended = true
	default:
	}
	return ended, func() { <-acted }
}

// A tenant's first write has no page whose lock a rotation would wait for.
func TestStalledFirstWrite(t *testing.T) {
	for name, act := range map[string]func(*witness){
		"a rotation":    func(w *witness) { w.rotateToTheEnd() },
		"two rotations": func(w *witness) { w.rotateToTheEnd(); w.rotateToTheEnd() },
		"a deletion": func(w *witness) {
			_, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
			require.NoError(w.t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for k := 1; ; k++ {
				m := withTenant(t)
				slowly(m)
				w := newWitness(m)
				w.calm()
				reached, goOn := w.stopKth(k)
				written := w.beside(update, itemPath("first"), secret("precious"))
				select {
				case got := <-written:
					require.NoError(t, got.err)
					require.Greater(t, k, 2)
					return
				case <-reached:
				}
				_, wait := w.meantime(act)
				goOn()
				got := <-written
				wait()
				w.untilOver()
				if !w.exists() {
					require.Empty(t, w.disk.Keys("pages/"), "of a tenant that is gone")
					continue
				}
				require.NoError(t, got.err)
				w.allowed["first"] = []string{"precious"}
				w.readsBack()
				w.atRest()
			}
		})
	}
}

// A worker that has read the record writes its page before the tenant goes, and not
// after.
func TestStalledSweepBesideADeletion(t *testing.T) {
	for k := 1; ; k++ {
		w := smallTenant(t)
		w.calm()
		<-w.b.Pages.Request()
		w.rotate()
		reached, goOn := w.stopKth(k)
		w.b.Pages.Release()
		over := make(chan struct{})
		go func() {
			w.untilOver()
			close(over)
		}()
		select {
		case <-over:
			require.Greater(t, k, 3)
			return
		case <-reached:
		}
		_, wait := w.meantime(func(w *witness) {
			_, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
			require.NoError(w.t, err)
		})
		goOn()
		wait()
		<-over
		w.created = false
		require.Eventually(t, func() bool { return !w.exists() }, 10*time.Second, time.Millisecond)
		w.close()
		require.Empty(t, w.disk.Keys("pages/"), "written after the tenant had gone")
		require.Empty(t, w.disk.Keys("progress/"))
	}
}

// Nothing is answered that was sealed by a version whose destruction has been
// acknowledged. Counting the seals of a key writes to storage before the answer.
func TestStalledSealBesideADestroy(t *testing.T) {
	for k := 1; ; k++ {
		m := newMount(t)
		m.limitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: 1 << 20, Hard: 1 << 21})
		slowly(m)
		w := newWitness(m)
		w.createAES()
		w.encrypt("before")
		w.calm()
		reached, goOn := w.stopKth(k)
		sealing := w.beside(update, tenantPath("/encrypt"), map[string]any{"plaintext": encoded("stalled")})
		select {
		case got := <-sealing:
			require.NoError(t, got.err)
			require.Greater(t, k, 1, "nothing is written while it is sealed")
			w.close()
			return
		case <-reached:
		}
		destroyed, wait := w.meantime(func(w *witness) {
			w.rotateToTheEnd()
			w.destroy(1, true)
		})
		goOn()
		got := <-sealing
		wait()
		if destroyed && got.err == nil {
			require.NotEqual(t, 1, got.resp.Data["key_version"], "sealed by a version that was destroyed")
		}
		w.close()
	}
}
