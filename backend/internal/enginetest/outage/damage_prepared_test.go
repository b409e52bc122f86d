// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// prepared has the disks on which cases of the matrix begin. Each call copies one.
type prepared struct {
	rest, unfinished func() *enginetest.Oracle
	moving           func() *enginetest.Oracle // nil: the tenant has no KEK of its own
}

// at returns the disk for damage that strikes at a moment, nil if there is none.
func (p prepared) at(moment string) func() *enginetest.Oracle {
	switch moment {
	case damageMoments[1]:
		return p.unfinished
	case damageMoments[3]:
		return p.moving
	}
	return p.rest
}

// copies returns copies of a disk as it is now, with what is known of it.
func copies(w *enginetest.Oracle, disk *storagetest.Disk) func() *enginetest.Oracle {
	known := w.On(&enginetest.Mount{})
	return func() *enginetest.Oracle { return known.On(&enginetest.Mount{Disk: disk.Clone()}) }
}

// prepareDamage makes the disks: TenantID has an entry of each family, and its keys are
// under the mount's KEK or one of its own.
func prepareDamage(t *testing.T, own bool) (p prepared) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, "config", map[string]any{"rotation_parallelism": 1, "scheduler_jitter": 0, "min_deletion_window": 0})
		m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "365_DAYS"})
		m.PublicKey()
		w := enginetest.NewOracle(m)
		w.CreateAES()
		w.Bulk(25, 3000)
		w.Encrypt("outside")
		w.Rotate()
		enginetest.Advance(time.Second)
		w.Deltas()
		w.EveryFamily()
		for _, id := range []string{wholeTenant, goneTenant} {
			m.Must(enginetest.Update, "tenants/"+id, nil)
			m.Must(enginetest.Update, "tenants/"+id+"/secrets/a", enginetest.Secret("v"))
		}
		if own {
			w.MoveUnderOwnKEK()
		}
		p.rest = copies(w, m.Disk.Clone())
		if own {
			p.moving = copies(w, whileItsKeysMove(w))
		}
		held := w.HoldAfter("pages/")
		w.Rotate()
		synctest.Wait()
		require.True(t, held.Load())
		latest := w.Rotations[len(w.Rotations)-1]
		m.Disk.Set("progress/"+w.Record().Incarnation, []byte(`{"rotation_id":"`+latest+`"}`))
		p.unfinished = copies(w, m.Disk.Clone())
		m.Crash()
	})
	return p
}

// whileItsKeysMove moves the tenant's keys to another KEK of its own and returns the disk
// as it was when one of them had moved.
func whileItsKeysMove(w *enginetest.Oracle) *storagetest.Disk {
	w.T.Helper()
	var disk atomic.Pointer[storagetest.Disk] // keys move at once
	keys := "keys/" + w.Record().Incarnation + "/"
	w.Storage.Done(func(op, key string) {
		if disk.Load() == nil && op == "put" && strings.HasPrefix(key, keys) {
			disk.CompareAndSwap(nil, w.Disk.Clone())
		}
	})
	w.MoveTenant(enginetest.TenantID, enginetest.ProviderName)
	w.Storage.Done(nil)
	require.NotNil(w.T, disk.Load())
	return disk.Load()
}

// movesEnd looks for a move of the tenant's keys that goes on for ever, and for what status
// does not name.
func movesEnd(w *enginetest.Oracle, status map[string]any) {
	w.T.Helper()
	if w.Disk.Value(recordKeyOf(w)) == nil || !w.Record().Moving() {
		return
	}
	resp, err := w.Call(enginetest.Read, enginetest.TenantPath("/kek"), nil)
	if err != nil || resp.Data["waiting_for"] == nil {
		require.True(w.T, namedIn(w, status), "a move of the tenant's keys goes on, and status names nothing: %v", status)
	}
}

// keysAreOnTheirKEK begins a move that has failed once more. Then the tenant's keys are on
// the KEK that its record names, and that which they left is destroyed.
func keysAreOnTheirKEK(w *enginetest.Oracle) {
	w.T.Helper()
	if w.Must(enginetest.Read, enginetest.TenantPath("/kek"), nil)["status"] == "failed" {
		w.Must(enginetest.Update, enginetest.TenantPath("/kek/rotate"), nil)
		w.Rests(3)
	}
	w.Wrapped()
	w.OwnKEKsAtRest()
}
