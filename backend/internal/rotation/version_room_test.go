// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// idempotent is the body of a request to rotate, whose idempotency key is as long as one
// may be.
func idempotent(n int) map[string]any {
	return map[string]any{"idempotency_key": strings.Repeat("<", 500) + fmt.Sprintf("%012d", n)}
}

// fillWithRetired adds retired versions, with a page key each, to a tenant's record
// until that is full; all of them in use outside, or none.
func fillWithRetired(w *enginetest.Oracle, external bool) {
	w.T.Helper()
	ctx := context.Background()
	require.NoError(w.T, w.Engine.Tenants.Hold(ctx, enginetest.TenantID, func(h *tenant.Held) error {
		next := h.Record().Clone()
		active := next.Keys.Active().Number
		for next.Keys.MakeRoom() {
			id, err := keyring.NewID("dek-")
			if err != nil {
				return err
			}
			n := next.Keys.Add(keyring.Version{KeyID: id, KeyType: keyring.XAES256GCM, CreatedAt: time.Now()})
			next.Keys.Activate(n, time.Now())
			next.Keys.Find(n).DestroyAfter = time.Now().Add(7 * enginetest.Day)
			b := next.Owner().Binding(id, keyring.XAES256GCM, keyring.PageKey)
			if err := w.Engine.Keys.CreateKey(ctx, "", b); err != nil {
				return err
			}
			if external {
				w.Disk.Set("keys/"+next.Incarnation+"/"+id+keystore.ExternalSuffix, []byte("{}"))
			}
		}
		next.Keys.Reactivate(active, time.Now())
		return h.Put(ctx, next)
	}))
	require.Len(w.T, w.Record().Keys.Versions, keyring.MaxVersions)
}

// A start that finds the record full destroys the oldest retired key, before its
// retention ends, and says so. Callers cannot keep an incident's rotation from starting.
func TestFullRecordMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.NewOracle(enginetest.NewMount(t))
		defer w.Close()
		w.Create()
		w.Bulk(3, 10)
		w.Rotated(idempotent(0))
		fillWithRetired(w, false)
		record, err := json.Marshal(w.Record())
		require.NoError(t, err)
		require.Less(t, len(record), 256<<10)
		keys := len(w.Disk.Keys("keys/"))
		oldest := w.Record().Keys.Versions[0]

		id := w.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), idempotent(1))["rotation_id"]
		enginetest.Advance(time.Second)
		last := w.Record().Last
		require.Equal(t, []any{id, tenant.Completed}, []any{last.ID, last.Phase})
		require.Len(t, last.Room, 1)
		require.Equal(t, []any{oldest.Number, oldest.KeyID}, []any{last.Room[0].Version, last.Room[0].KeyID})
		require.Len(t, w.Disk.Keys("keys/"), keys)
		require.Empty(t, slices.DeleteFunc(w.Disk.Keys("keys/"), func(key string) bool { return !strings.Contains(key, oldest.KeyID) }))
		require.Len(t, w.Record().Keys.Versions, keyring.MaxVersions)
		require.Equal(t, "destroyed", w.Must(enginetest.Update, enginetest.DestroyPath(1), nil)["state"], "though it has left the record")

		var destroyed []string
		for _, e := range w.Entries(enginetest.TenantID) {
			if end, ok := e.Detail.(*evidence.KeyDestroyed); ok {
				destroyed = append(destroyed, end.KeyID+" "+end.Which+" "+end.Why)
			}
		}
		require.Equal(t, []string{oldest.KeyID + " page " + evidence.WhyRoom}, destroyed)

		// What the schedule is asked for goes on as well, and repeated requests are
		// recognized.
		w.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		enginetest.Advance(time.Minute)
		require.Equal(t, "requested", w.Record().Last.Trigger)
		require.Equal(t, id, w.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), idempotent(1))["rotation_id"])
		require.Equal(t, 0, w.Must(enginetest.Read, "status", nil)["blocked"])
		w.ReadsBack()
		w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "0"})
	})
}

// A retired key that is in use outside does not make room, nor does one that a page is
// on. If there is no other, the start is refused, and status says why, until there is
// room.
func TestFullRecordWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.NewOracle(enginetest.NewMount(t))
		defer w.Close()
		w.Create()
		w.Bulk(3, 10)
		fillWithRetired(w, true)
		const says = "no room for another: destroy old ones, or wait until retired_key_retention"
		w.Refused(409, says, enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		blocked := w.Must(enginetest.Read, "status", nil)["blocked_tenants"].(map[string]string)
		require.Contains(t, blocked[enginetest.TenantID], says)
		require.Len(t, w.Record().Keys.Versions, keyring.MaxVersions)

		w.Must(enginetest.Update, enginetest.DestroyPath(7), map[string]any{"force": true})
		require.Equal(t, 0, w.Must(enginetest.Read, "status", nil)["blocked"])
		text := base64.StdEncoding.EncodeToString([]byte("outside"))
		w.Must(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": text})
		w.Rotated(nil)
		w.Refused(409, says, enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		w.Must(enginetest.Read, enginetest.ItemPath("bulk/1"), nil)
	})
}

// Versions that were destroyed leave the record once a hundred newer ones were made.
func TestDestroyedVersionsLeaveTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"manual_rotations_per_hour": 0})
		m.DestroyAtOnce()
		w := enginetest.NewOracle(m)
		w.Create()
		w.Put("a", "1")
		for n := range 120 {
			m.Rotated(idempotent(n))
		}
		require.Len(t, w.Record().Keys.Versions, 101)
		w.ReadsBack()
	})
}

// How often callers may rotate a tenant's key in an hour has a limit. Requests for many
// do not count, nor do repeated ones.
func TestManualRotationsHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, "config", map[string]any{"manual_rotations_per_hour": 3})
		for n := range 3 {
			m.Rotated(idempotent(n))
			m.Rotated(idempotent(n))
			enginetest.Advance(time.Minute)
		}
		resp, err := m.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		require.Equal(t, 429, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "manual_rotations_per_hour")
		require.Equal(t, []string{fmt.Sprint((51 * time.Minute).Seconds())}, resp.Headers["Retry-After"])
		m.Rotated(idempotent(2))

		m.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		enginetest.Advance(time.Minute)
		require.Len(t, m.RotationsOf(enginetest.TenantID), 4, "an incident's is not held up")
		m.Must(enginetest.Update, "config", map[string]any{"manual_rotations_per_hour": 0})
		m.Rotated(nil)
		m.Must(enginetest.Update, "config", map[string]any{"manual_rotations_per_hour": 3})
		m.Refused(429, "manual_rotations_per_hour", enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		enginetest.Advance(time.Hour)
		m.Rotated(nil)
		for _, n := range []any{-1, 100_001, 1.5, "x"} {
			m.Refused(400, "manual_rotations_per_hour must be", enginetest.Update, "config", map[string]any{"manual_rotations_per_hour": n})
		}
	})
}
