// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kek_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

const (
	owner = enginetest.ProviderName
	other = "tenants/" + enginetest.OtherTenant
)

// withProvider has f act on a mount with a provider and two tenants, the oracle's with items
// and keys of every kind.
func withProvider(t *testing.T, f func(w *enginetest.Oracle)) {
	t.Helper()
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		w := enginetest.NewOracle(m)
		w.Created = true
		w.Put("a", "1")
		w.Bulk(20, 3000)
		w.Encrypt("outside")
		w.Must(enginetest.Update, other, nil)
		w.Must(enginetest.Update, other+"/secrets/a", enginetest.Secret("v"))
		w.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
		w.Provide(nil)
		f(w)
	})
}

// denied makes a request that the provider's denial refuses. The first of them notes that the
// denial has begun.
func denied(w *enginetest.Oracle, op logical.Operation, path string, data map[string]any) {
	w.T.Helper()
	resp, err := w.Call(op, path, data)
	require.Equal(w.T, 424, enginetest.Code(resp, err), "%s %s", op, path)
	require.ErrorContains(w.T, err, "key provider "+owner)
}

func kekOf(w *enginetest.Oracle) map[string]any {
	w.T.Helper()
	return w.Must(enginetest.Read, enginetest.TenantPath("/kek"), nil)
}

// A tenant's keys move under a KEK of its own, to a newer one there, and back to the mount's.
func TestTenantMovesInAndOut(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		mounts := w.Must(enginetest.Read, "kek", nil)["kek_id"]
		before := kekOf(w)
		require.Equal(t, []any{mounts, "", "", nil, "not_rotated"},
			[]any{before["kek_id"], before["provider"], before["state"], before["lease_until"], before["status"]})

		started := w.Must(enginetest.Update, enginetest.TenantPath("/kek/rotate"), map[string]any{"provider": owner, "reason": "ours"})
		enginetest.Advance(time.Second)
		in := kekOf(w)
		for field, want := range map[string]any{
			"kek_id": started["kek_id"], "provider": owner, "state": "ok", "status": "completed", "reason": "ours",
			"tenants": 1, "keys": 3, "keys_failed": 0, "percent": 100.0, "older_kek_ids": []string{}, "waiting_for": nil,
			"initiated_by": map[string]any{"id": "root", "name": "root", "email": ""},
		} {
			require.Equal(t, want, in[field], field)
		}
		require.NotNil(t, in["lease_until"])
		require.True(t, keystore.IsOwnKEK(in["kek_id"].(string)))
		w.KekAtRest()
		w.ReadsBack()
		w.Opens()
		require.Equal(t, owner, w.Must(enginetest.Read, enginetest.TenantPath(""), nil)["key_provider"])
		info := w.Must(enginetest.List, "tenants", map[string]any{"detailed": true, "limit": 10})["key_info"].(map[string]any)
		require.Equal(t, owner, info[enginetest.TenantID].(map[string]any)["key_provider"])
		require.Equal(t, "", info[enginetest.OtherTenant].(map[string]any)["key_provider"])

		// Older keys stay in older snapshots, so the tenant's is rotated.
		w.Tick()
		latest := w.Latest()
		require.Equal(t, []any{"completed", "requested", "root"},
			[]any{latest["status"], latest["trigger"], latest["initiated_by"].(map[string]any)["id"]})
		require.Contains(t, latest["reason"], "key provider "+owner)

		w.Refused(409, "kek/rotate", enginetest.Delete, "providers/"+owner, nil)
		require.Equal(t, 1, w.Must(enginetest.Read, "providers/"+owner, nil)["in_use"])
		rotations := len(w.RotationsOf(enginetest.TenantID))
		w.MoveTenant(enginetest.TenantID, owner)
		require.NotEqual(t, in["kek_id"], kekOf(w)["kek_id"])
		require.Equal(t, in["kek_id"], kekOf(w)["previous_kek_id"])
		w.Tick()
		require.Len(t, w.RotationsOf(enginetest.TenantID), rotations, "it stays with its owner")

		w.MoveTenant(enginetest.TenantID, "")
		w.AtRest() // the evidence log has each move, and the end of each KEK that was left
		out := kekOf(w)
		require.Equal(t, []any{mounts, "", "", nil}, []any{out["kek_id"], out["provider"], out["state"], out["lease_until"]})
		require.Empty(t, w.Disk.Keys("tenantkeks/"))
		w.Must(enginetest.Delete, "providers/"+owner, nil)
		w.ReadsBack()
		w.KekAtRest()
	})
}

func TestTenantIsCreatedUnderAProvider(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		path := "tenants/" + enginetest.TenantN(5)
		w.Refused(400, "tenants name this tenant", enginetest.Update, path, map[string]any{"key_provider": "unknown"})
		w.Must(enginetest.Update, "providers/"+owner, map[string]any{"tenants": []any{enginetest.TenantN(5)}})
		w.Refused(400, "tenants name this tenant", enginetest.Update, "tenants/"+enginetest.TenantN(6), map[string]any{"key_provider": owner})
		w.Refused(400, "tenants name this tenant", enginetest.Update, enginetest.TenantPath("/kek/rotate"), map[string]any{"provider": owner})
		w.Refused(404, "tenant not found", enginetest.Update, path, map[string]any{"key_provider": owner, "must_exist": true})
		w.Transit.Set(providertest.Denies)
		denied(w, enginetest.Update, path, map[string]any{"key_provider": owner})
		w.Transit.Set(providertest.Works)
		require.Equal(t, owner, w.Must(enginetest.Update, path, map[string]any{"key_provider": owner})["key_provider"])
		w.Must(enginetest.Update, path+"/secrets/a", enginetest.Secret("v"))
		kek := w.Must(enginetest.Read, path+"/kek", nil)
		require.Equal(t, []any{owner, "not_rotated"}, []any{kek["provider"], kek["status"]})
		w.Refused(400, "kek/rotate", enginetest.Update, path, map[string]any{"key_provider": ""})
		w.Must(enginetest.Update, path, map[string]any{"key_provider": owner, "display_name": "its own"})
		w.Tick()
		require.Empty(t, w.RotationsOf(enginetest.TenantN(5)), "it has no older keys")
		w.Wrapped()
	})
}

// While a tenant's provider denies, that tenant is refused, and nothing else is: neither
// another tenant nor the rotation of the mount's KEK.
func TestTenantsProviderDenies(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		w.MoveTenant(enginetest.TenantID, owner)
		w.Tick()
		w.ReadsBack()
		w.Transit.Set(providertest.Denies)
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		w.DropPages()
		for _, path := range []string{"/encrypt", "/datakey/plaintext"} {
			denied(w, enginetest.Update, enginetest.TenantPath(path), map[string]any{"plaintext": "eA=="})
		}
		resp, err := w.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		require.Equal(t, 424, enginetest.Code(resp, err))
		require.ErrorContains(t, err, owner)
		enginetest.Advance(time.Second) // its intent goes
		denied(w, enginetest.Read, enginetest.ItemPath("a"), nil)
		denied(w, enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("2"))
		denied(w, enginetest.Update, enginetest.TenantPath("/kek/rotate"), map[string]any{"provider": ""})
		denied(w, enginetest.Update, enginetest.TenantPath("/kek/rotate"), nil)
		require.Equal(t, "denied", kekOf(w)["state"])
		require.Nil(t, kekOf(w)["lease_until"])

		w.Must(enginetest.Read, other+"/secrets/a", nil)
		w.Must(enginetest.Update, other+"/dek/rotate", nil)
		w.Must(enginetest.Update, other+"/encrypt", map[string]any{"plaintext": "eA=="})
		require.EqualValues(t, 3600, w.Must(enginetest.Update, other+"/datakey/plaintext", nil)["lease"])
		w.MoveKEK("")

		// A rotation that is due waits, and says for what.
		w.Must(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantID}})
		w.Tick()
		blocked := w.Must(enginetest.Read, "status", nil)["blocked_tenants"].(map[string]string)
		require.Contains(t, blocked[enginetest.TenantID], owner)
		w.Transit.Set(providertest.Works)
		enginetest.Advance(11 * time.Second)
		w.Tick()
		require.Equal(t, "completed", w.Latest()["status"])
		require.Empty(t, w.Must(enginetest.Read, "status", nil)["blocked_tenants"])
		w.ReadsBack()
		w.KekAtRest()
	})
}

// What a tenant's keys were opened with before a move ends with the move: from then on the
// provider's lease holds.
func TestMovingInEndsWhatIsOpen(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		w.ReadsBack()
		w.MoveTenant(enginetest.TenantID, owner)
		require.LessOrEqual(t, w.Must(enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), nil)["lease"], int64(60))
		w.Transit.Set(providertest.Denies)
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		denied(w, enginetest.Read, enginetest.ItemPath("a"), nil)
		denied(w, enginetest.Read, enginetest.ItemPath("never-there"), nil)
		denied(w, enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "eA=="})
	})
}

// A tenant whose provider is gone for good can be deleted, at once too, and the provider then.
func TestTenantOfALostProviderIsDeleted(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		w.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": 0})
		enginetest.Advance(25 * time.Hour)
		w.MoveTenant(enginetest.TenantID, owner)
		w.Transit.Set(providertest.Denies)
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "0"})
		w.Refused(404, "tenant not found", enginetest.Read, enginetest.TenantPath("/kek"), nil)
		require.Empty(t, w.Disk.Keys("tenantkeks/"))
		w.Must(enginetest.Delete, "providers/"+owner, nil)
		w.Must(enginetest.Read, other+"/secrets/a", nil)
	})
}

func TestOneMoveAtATime(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		path := enginetest.TenantPath("/kek/rotate")
		w.Must(enginetest.Update, "config", map[string]any{"rotation_parallelism": 1})
		<-w.Engine.Pages.Request()
		again := map[string]any{"provider": owner, "idempotency_key": "mine"}
		first := w.Must(enginetest.Update, path, again)
		require.Equal(t, first["kek_id"], w.Must(enginetest.Update, path, again)["kek_id"], "while it runs")
		w.Refused(409, first["kek_id"].(string), enginetest.Update, path, map[string]any{"provider": ""})
		w.Engine.Pages.Release()
		enginetest.Advance(time.Second)
		ended := w.Must(enginetest.Update, path, again)
		require.Equal(t, []any{first["kek_id"], "completed"}, []any{ended["kek_id"], ended["status"]}, "and when it is over")
		for says, data := range map[string]map[string]any{
			"reason must have at most 1024 bytes": {"reason": strings.Repeat("x", 1025)},
			"provider must be":                    {"provider": []any{"a"}},
			"tenants name this tenant":            {"provider": "../owner"},
		} {
			w.Refused(400, says, enginetest.Update, path, data)
		}
		w.Must(enginetest.Delete, enginetest.TenantPath(""), nil)
		w.Refused(404, "being deleted", enginetest.Update, path, nil)
		w.Refused(404, "not found", enginetest.Update, "tenants/"+enginetest.TenantN(9)+"/kek/rotate", nil)
	})
}

// A Put of a key that was reported as failed may have moved it to the mount's KEK, behind a
// stale cache. While the move waits for its provider, the mount's KEK rotates.
func TestHiddenMoveOutlivesTheMountsRotation(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		w.MoveTenant(enginetest.TenantID, owner)
		w.Tick()
		hidden := false
		w.Storage.Fail(func(op, key string) storagetest.Fault {
			switch {
			case op != "put" || !strings.HasPrefix(key, "keys/"):
				return storagetest.None
			case hidden:
				return storagetest.Before
			}
			hidden = true
			return storagetest.AfterStale
		})
		w.Must(enginetest.Update, enginetest.TenantPath("/kek/rotate"), map[string]any{"provider": ""})
		enginetest.Advance(time.Second)
		require.True(t, hidden)
		w.Crash()

		w = w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
		w.Transit.Set(providertest.Denies)
		w.Tick()
		require.Equal(t, "in_progress", kekOf(w)["status"], "the move waits")
		require.Equal(t, owner, kekOf(w)["waiting_for"])
		w.MoveKEK("")
		w.Crash()
		w.Disk.RestartVault()
		w = w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
		defer w.Close()
		w.Wrapped()
		w.Rests(2)
		require.Equal(t, "completed", kekOf(w)["status"])
		w.ReadsBack()
		w.KekAtRest()
	})
}

// A KEK of a tenant's own that cannot be read holds up that tenant alone, and it can be
// deleted.
func TestDamagedOwnKEK(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		w.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": 0})
		enginetest.Advance(25 * time.Hour)
		w.MoveTenant(enginetest.TenantID, owner)
		w.Disk.Damage(storagetest.ErrAltered, storagetest.Below("tenantkeks/"))
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		resp, err := w.Call(enginetest.Read, enginetest.ItemPath("a"), nil)
		require.Equal(t, 500, enginetest.Code(resp, err))
		w.Must(enginetest.Read, other+"/secrets/a", nil)
		w.MoveKEK("")
		require.Equal(t, 1, len(w.Disk.Keys("tenantkeks/")))
		w.Must(enginetest.Read, "providers/"+owner, nil)
		w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "0"})
		require.Empty(t, w.Disk.Keys("tenantkeks/"))
	})
}
