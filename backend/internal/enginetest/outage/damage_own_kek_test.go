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

// underOwnKEK is a tenant with items whose keys are under a KEK of its own.
func underOwnKEK(t *testing.T) *enginetest.Oracle {
	t.Helper()
	w := enginetest.Filled(t, 5)
	w.Provide(nil)
	w.MoveUnderOwnKEK()
	return w
}

func ownKEKs(w *enginetest.Oracle) []string {
	inc := w.Record().Incarnation
	return w.Disk.Keys("tenantkeks/" + inc[:2] + "/" + inc + ".")
}

func tenantKEK(w *enginetest.Oracle) map[string]any {
	w.T.Helper()
	return w.Must(enginetest.Read, enginetest.TenantPath("/kek"), nil)
}

// moveAgain moves the tenant's keys once everything can be read, and checks that all is well.
func moveAgain(w *enginetest.Oracle) {
	w.T.Helper()
	w.Disk.Heal()
	w.Must(enginetest.Update, enginetest.TenantPath("/kek/rotate"), nil)
	w.Rests(1)
	require.Equal(w.T, "completed", tenantKEK(w)["status"])
	require.Len(w.T, ownKEKs(w), 1)
	w.Wrapped()
	w.OwnKEKsAtRest()
	w.ReadsBack()
}

// A move to a KEK that cannot be read ends failed and destroys nothing. No other tenant is
// held up, and the next move takes the keys.
func TestMoveToAnUnreadableKEKEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := underOwnKEK(t)
		disk := whileItsKeysMove(w)
		w.Close()
		w = w.On(&enginetest.Mount{T: t, Disk: disk})
		to := w.Record().KEKID()
		stored := ownKEKs(w)
		require.Len(t, stored, 2)
		require.Equal(t, 1, disk.Damage(storagetest.ErrAltered, func(key string) bool { return strings.HasSuffix(key, to) }))
		w = w.On(enginetest.OpenMount(t, disk, 0, storagetest.None))
		defer w.Close()
		w.Rests(1)
		kek := tenantKEK(w)
		require.Equal(t, "failed", kek["status"])
		require.Equal(t, "its key-encryption key is damaged", kek["failures"].([]map[string]any)[0]["reason"])
		require.Equal(t, stored, ownKEKs(w))
		require.Equal(t, map[string]int{"tenantkeks": 1}, w.Must(enginetest.Read, "status", nil)["damaged_entries"])
		w.Must(enginetest.Update, "tenants/"+wholeTenant, nil)
		w.MoveTenant(wholeTenant, enginetest.ProviderName)
		moveAgain(w)
	})
}

// So does a move whose KEKs cannot be listed: nothing tells which are left.
func TestMoveEndsThoughKEKsCannotBeListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := underOwnKEK(t)
		defer w.Close()
		w.Disk.DamageList(storagetest.ErrAltered, "tenantkeks/"+w.Record().Incarnation[:2]+"/")
		_, err := w.Call(enginetest.Update, enginetest.TenantPath("/kek/rotate"), nil)
		require.ErrorContains(t, err, "listing tenantkeks/", "its answer lists them")
		w.Rests(1)
		require.Len(t, ownKEKs(w), 2)
		r := w.Record().KEK.Rotation
		require.Equal(t, "failed", string(r.Phase))
		require.Equal(t, "the tenant's key-encryption keys cannot be listed", r.Failures[0].Reason)
		moveAgain(w)
	})
}

// A move under a provider makes a rotation due though it has failed, since the next one
// begins under that provider.
func TestMoveInThatFailedMakesARotationDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 5)
		defer w.Close()
		w.Provide(nil)
		rec := w.Record()
		damageKey(w, "keys/"+rec.Incarnation+"/"+rec.PlacementKeyID)
		w.Must(enginetest.Update, enginetest.TenantPath("/kek/rotate"), map[string]any{"provider": enginetest.ProviderName})
		enginetest.Advance(time.Second) // the move ends
		require.Equal(t, "failed", tenantKEK(w)["status"])
		w.Rests(1)
		latest := w.Latest()
		require.Equal(t, []any{"completed", "requested"}, []any{latest["status"], latest["trigger"]})
		moveAgain(w)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 1, "once is enough")
	})
}

// A deletion destroys the KEKs that the record names though they cannot be listed, and is
// not answered 204 while there may be others.
func TestDeletionDestroysKEKsThatCannotBeListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := underOwnKEK(t)
		defer w.Close()
		inc := w.Record().Incarnation
		w.Disk.DamageList(storagetest.ErrAltered, "tenantkeks/"+inc[:2]+"/")
		resp, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.Empty(t, w.Disk.Keys("keys/"+inc))
		require.Empty(t, w.Disk.Keys("tenantkeks/"))
		require.NotEmpty(t, w.Disk.Value(recordKeyOf(w)))
		w.Disk.Heal()
		w.Hourly(2 * time.Hour)
		require.Empty(t, w.Disk.Value(recordKeyOf(w)))
		require.NotEmpty(t, w.Disk.Keys("tombstones/"))
	})
}
