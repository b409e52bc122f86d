// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// idempotent is the body of a request to rotate, whose idempotency key is as long as one
// may be.
func idempotent(n int) map[string]any {
	return map[string]any{"idempotency_key": strings.Repeat("<", 500) + fmt.Sprintf("%012d", n)}
}

// fillWithRetired adds retired versions, with a page key each, to a tenant's record
// until that is full; all of them in use outside, or none.
func (w *witness) fillWithRetired(external bool) {
	w.t.Helper()
	ctx := context.Background()
	require.NoError(w.t, w.b.tenants.Hold(ctx, testTenant, func(h *tenant.Held) error {
		next := h.Record().Clone()
		active := next.Keys.Active().Number
		for next.Keys.MakeRoom() {
			id, err := keyring.NewID("dek-")
			if err != nil {
				return err
			}
			n := next.Keys.Add(keyring.Version{KeyID: id, KeyType: keyring.XAES256GCM, CreatedAt: time.Now()})
			next.Keys.Activate(n, time.Now())
			next.Keys.Find(n).DestroyAfter = time.Now().Add(7 * day)
			b := next.Owner().Binding(id, keyring.XAES256GCM, keyring.PageKey)
			if err := w.b.keys.CreateKey(ctx, b); err != nil {
				return err
			}
			if external {
				w.disk.Set("keys/"+next.Incarnation+"/"+id+keystore.ExternalSuffix, []byte("{}"))
			}
		}
		next.Keys.Reactivate(active, time.Now())
		return h.Put(ctx, next)
	}))
	require.Len(w.t, w.record().Keys.Versions, keyring.MaxVersions)
}

// A start that finds the record full destroys the oldest retired key, before its
// retention ends, and says so. Callers cannot keep an incident's rotation from starting.
func TestFullRecordMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(newMount(t))
		defer w.close()
		w.create()
		w.bulk(3, 10)
		w.rotated(idempotent(0))
		w.fillWithRetired(false)
		record, err := json.Marshal(w.record())
		require.NoError(t, err)
		require.Less(t, len(record), 256<<10)
		keys := len(w.disk.Keys("keys/"))
		oldest := w.record().Keys.Versions[0]

		id := w.must(update, tenantPath("/dek/rotate"), idempotent(1))["rotation_id"]
		advance(time.Second)
		last := w.record().Last
		require.Equal(t, []any{id, tenant.Completed}, []any{last.ID, last.Phase})
		require.Len(t, last.Room, 1)
		require.Equal(t, []any{oldest.Number, oldest.KeyID}, []any{last.Room[0].Version, last.Room[0].KeyID})
		require.Len(t, w.disk.Keys("keys/"), keys)
		require.Empty(t, slices.DeleteFunc(w.disk.Keys("keys/"), func(key string) bool { return !strings.Contains(key, oldest.KeyID) }))
		require.Len(t, w.record().Keys.Versions, keyring.MaxVersions)
		require.Equal(t, "destroyed", w.must(update, destroyPath(1), nil)["state"], "though it has left the record")

		// What the schedule is asked for goes on as well, and repeated requests are
		// recognized.
		w.must(update, "rotations", map[string]any{"all": true})
		advance(time.Minute)
		require.Equal(t, "requested", w.record().Last.Trigger)
		require.Equal(t, id, w.must(update, tenantPath("/dek/rotate"), idempotent(1))["rotation_id"])
		require.Equal(t, 0, w.must(read, "status", nil)["blocked"])
		w.readsBack()
		w.must(del, tenantPath(""), map[string]any{"deletion_window": "0"})
	})
}

// A retired key that is in use outside does not make room, nor does one that a page is
// on. If there is no other, the start is refused, and status says why, until there is
// room.
func TestFullRecordWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(newMount(t))
		defer w.close()
		w.create()
		w.bulk(3, 10)
		w.fillWithRetired(true)
		const says = "no room for another: destroy old ones, or wait until retired_key_retention"
		w.refused(409, says, update, tenantPath("/dek/rotate"), nil)
		blocked := w.must(read, "status", nil)["blocked_tenants"].(map[string]string)
		require.Contains(t, blocked[testTenant], says)
		require.Len(t, w.record().Keys.Versions, keyring.MaxVersions)

		w.must(update, destroyPath(7), map[string]any{"force": true})
		require.Equal(t, 0, w.must(read, "status", nil)["blocked"])
		text := base64.StdEncoding.EncodeToString([]byte("outside"))
		w.must(update, tenantPath("/encrypt"), map[string]any{"plaintext": text})
		w.rotated(nil)
		w.refused(409, says, update, tenantPath("/dek/rotate"), nil)
		w.must(read, itemPath("bulk/1"), nil)
	})
}

// Versions that were destroyed leave the record once a hundred newer ones were made.
func TestDestroyedVersionsLeaveTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, "config", map[string]any{"manual_rotations_per_hour": 0})
		m.destroyAtOnce()
		w := newWitness(m)
		w.create()
		w.put("a", "1")
		for n := range 120 {
			m.rotated(idempotent(n))
		}
		require.Len(t, w.record().Keys.Versions, 101)
		w.readsBack()
	})
}

// How often callers may rotate a tenant's key in an hour has a limit. Requests for many
// do not count, nor do repeated ones.
func TestManualRotationsHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		m.must(update, "config", map[string]any{"manual_rotations_per_hour": 3})
		for n := range 3 {
			m.rotated(idempotent(n))
			m.rotated(idempotent(n))
			advance(time.Minute)
		}
		resp, err := m.call(update, tenantPath("/dek/rotate"), nil)
		require.Equal(t, 429, code(resp, err))
		require.ErrorContains(t, err, "manual_rotations_per_hour")
		require.Equal(t, []string{fmt.Sprint((51 * time.Minute).Seconds())}, resp.Headers["Retry-After"])
		m.rotated(idempotent(2))

		m.must(update, "rotations", map[string]any{"all": true})
		advance(time.Minute)
		require.Len(t, m.rotationsOf(testTenant), 4, "an incident's is not held up")
		m.must(update, "config", map[string]any{"manual_rotations_per_hour": 0})
		m.rotated(nil)
		m.must(update, "config", map[string]any{"manual_rotations_per_hour": 3})
		m.refused(429, "manual_rotations_per_hour", update, tenantPath("/dek/rotate"), nil)
		advance(time.Hour)
		m.rotated(nil)
		for _, n := range []any{-1, 100_001, 1.5, "x"} {
			m.refused(400, "manual_rotations_per_hour must be", update, "config", map[string]any{"manual_rotations_per_hour": n})
		}
	})
}
