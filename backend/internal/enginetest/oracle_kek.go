// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// KEKs is what an oracle keeps of the rotations of the KEK: how many were asked
// for, and which were acknowledged, latest last.
type KEKs struct {
	Asked int
	Acked []string

	MovesAsked int      // moves of the tenant's keys that were asked for
	Moved      []string // where to, of those acknowledged: a provider, empty for the mount's KEK
}

// RotateKEK starts a rotation of the KEK.
func (w *Oracle) RotateKEK() { w.rotateKEK(nil) }

// RotateKEKUnder moves the KEK under a provider, empty for Vault's storage.
func (w *Oracle) RotateKEKUnder(name string) { w.rotateKEK(map[string]any{"provider": name}) }

func (w *Oracle) rotateKEK(data map[string]any) {
	w.KEKs.Asked++
	w.Do(Update, "kek/rotate", data, func(w *Oracle, resp *logical.Response) {
		w.KEKs.Acked = append(w.KEKs.Acked, resp.Data["kek_id"].(string))
	})
}

// MoveKeys moves the tenant's keys under a provider, or back to the mount's KEK. It makes
// rotations due, which may end as completed only.
func (w *Oracle) MoveKeys(under string) {
	w.KEKs.MovesAsked++
	w.Do(Update, TenantPath("/kek/rotate"), map[string]any{"provider": under}, func(w *Oracle, resp *logical.Response) {
		w.KEKs.Moved = append(w.KEKs.Moved, resp.Data["provider"].(string))
	})
}

// MidMove is MoveKeys, and runs f while the move waits for the one place in the pool: it has
// started, and nothing is moved yet.
func (w *Oracle) MidMove(under string, f func()) {
	place := w.Engine.Pages.Request()
	w.MoveKeys(under)
	synctest.Wait()
	f()
	<-place
	w.Engine.Pages.Release()
	Advance(time.Second)
}

// MidKEK starts a rotation of the KEK and runs f while it has moved the keys of
// some tenants and waits for a place in the pool, without a lock. If a fault comes
// before, f runs all the same.
func (w *Oracle) MidKEK(f func()) { w.midKEK(w.RotateKEK, f) }

// MidKEKUnder is MidKEK of a move under a provider.
func (w *Oracle) MidKEKUnder(name string, f func()) {
	w.midKEK(func() { w.RotateKEKUnder(name) }, f)
}

func (w *Oracle) midKEK(start, f func()) {
	held := w.HoldAfter("keys/")
	start()
	Advance(time.Second)
	w.Storage.Hook(nil)
	f()
	if held.Load() {
		w.Engine.Pages.Release()
	}
}

// kekRecord reads the record of the KEK from disk, nil if there is none.
func (w *Oracle) kekRecord() *keystore.KEKRecord {
	w.T.Helper()
	value := w.Disk.Value("kek/current")
	if value == nil {
		return nil
	}
	rec := new(keystore.KEKRecord)
	require.NoError(w.T, json.Unmarshal(value, rec))
	return rec
}

// kekOf returns the KEK that an entry of a key names.
func (w *Oracle) kekOf(key string) string {
	w.T.Helper()
	var entry map[int]any
	require.NoError(w.T, cbor.Unmarshal(w.Disk.Value(key), &entry), key)
	return entry[2].(string)
}

// Wrapped checks what holds at every moment: the current KEK is there, and so is
// every other that the key of a tenant names.
func (w *Oracle) Wrapped() {
	w.T.Helper()
	rec := w.kekRecord()
	if rec == nil {
		for _, key := range w.tenantKeys() {
			require.True(w.T, keystore.IsOwnKEK(w.kekOf(key)), "%s has no KEK", key)
		}
		return
	}
	stored := w.Disk.Keys("kek/keys/")
	require.Contains(w.T, stored, "kek/keys/"+rec.KEKID, "the current KEK")
	stored = append(stored, w.Disk.Keys("tenantkeks/")...)
	for _, key := range w.tenantKeys() {
		require.Contains(w.T, stored, w.kekKeyOf(key), "the KEK of %s", key)
	}
}

// kekKeyOf returns where the KEK lies that an entry of a key names.
func (w *Oracle) kekKeyOf(key string) string {
	w.T.Helper()
	id := w.kekOf(key)
	if !keystore.IsOwnKEK(id) {
		return "kek/keys/" + id
	}
	incarnation := strings.Split(key, "/")[1]
	return ownKEKKey(incarnation, id)
}

// ownKEKKey is where a KEK of a tenant's own lies.
func ownKEKKey(incarnation, id string) string {
	return "tenantkeks/" + incarnation[:2] + "/" + incarnation + "." + id
}

// recorded reports whether the tenant has a record on disk.
func (w *Oracle) recorded() bool {
	return slices.ContainsFunc(w.Disk.Keys("tenants/"), func(key string) bool { return strings.HasSuffix(key, TenantID) })
}

// tenantKeys lists the entries of all keys of tenants on disk.
func (w *Oracle) tenantKeys() (all []string) {
	w.T.Helper()
	for _, listed := range w.Disk.Keys("tenants/") {
		t := new(tenant.Record)
		require.NoError(w.T, json.Unmarshal(w.Disk.Value(listed), t))
		if t.State == tenant.Shredding {
			continue // nobody needs its keys
		}
		keys := w.Disk.Keys("keys/" + t.Incarnation + "/")
		require.GreaterOrEqual(w.T, len(keys), 2, "keys of %s", listed)
		all = append(all, keys...)
	}
	return all
}

// KekAtRest checks what has to hold once every rotation of the KEK has come to an
// end: of one that completed, nothing is on another KEK, and none that ever was
// the current one is left.
func (w *Oracle) KekAtRest() {
	w.T.Helper()
	w.Wrapped()
	w.OwnKEKsAtRest()
	rec := w.kekRecord()
	if rec == nil || rec.Rotation == nil {
		require.Empty(w.T, w.KEKs.Acked, "an acknowledged rotation of the KEK is gone")
		return
	}
	require.Equal(w.T, keystore.KEKCompleted, rec.Rotation.Phase, "the rotation of the KEK: %v", rec.Rotation.Failures)
	for _, key := range w.tenantKeys() {
		if kek := w.kekOf(key); !keystore.IsOwnKEK(kek) {
			require.Equal(w.T, rec.KEKID, kek, "the KEK of %s", key)
		}
	}
	require.NotContains(w.T, w.Disk.Keys("kek/keys/"), "kek/keys/"+rec.Rotation.From)
	if n := len(w.KEKs.Acked); n > 0 && n == w.KEKs.Asked {
		require.Equal(w.T, w.KEKs.Acked[n-1], rec.KEKID, "the latest rotation of the KEK")
	}
}

// OwnKEKsAtRest checks what has to hold once every move of a tenant's keys has come to an end:
// they are on the KEK that the record names, and that which was left is destroyed.
func (w *Oracle) OwnKEKsAtRest() {
	w.T.Helper()
	for _, listed := range w.Disk.Keys("tenants/") {
		t := new(tenant.Record)
		require.NoError(w.T, json.Unmarshal(w.Disk.Value(listed), t))
		if t.State == tenant.Shredding {
			continue
		}
		if t.KEK != nil && t.KEK.Rotation != nil {
			require.Equal(w.T, keystore.KEKCompleted, t.KEK.Rotation.Phase, "the move of %s: %v", t.ID, t.KEK.Rotation.Failures)
			require.NotContains(w.T, w.Disk.Keys("tenantkeks/"), ownKEKKey(t.Incarnation, t.KEK.Rotation.From), "the KEK that was left")
		}
		for _, key := range w.Disk.Keys("keys/" + t.Incarnation + "/") {
			kek := w.kekOf(key)
			require.Equal(w.T, t.KEKID() != "", keystore.IsOwnKEK(kek), "the KEK of %s", key)
			if t.KEKID() != "" {
				require.Equal(w.T, t.KEKID(), kek, "the KEK of %s", key)
			}
		}
		if n := len(w.KEKs.Moved); n > 0 && n == w.KEKs.MovesAsked && t.ID == TenantID {
			require.Equal(w.T, w.KEKs.Moved[n-1], t.KeyProvider(), "the latest move that was acknowledged")
		}
	}
}

// kekRotates checks that every key of every tenant opens: by a rotation of the
// KEK, which reads them all.
func (w *Oracle) kekRotates() {
	w.T.Helper()
	if w.KEKs.Asked == 0 {
		return // it would make changes that the scenario is not about
	}
	w.KEKs.Asked++
	w.Must(Update, "kek/rotate", map[string]any{"idempotency_key": "last"})
	Advance(time.Minute)
	st := w.Must(Read, "kek", nil)
	require.Equal(w.T, "completed", st["status"])
	require.Empty(w.T, st["older_kek_ids"])
	require.Len(w.T, w.Disk.Keys("kek/keys/"), 1)
	w.KEKs.Acked = append(w.KEKs.Acked, st["kek_id"].(string))
	w.KekAtRest()
	w.Engine.InvalidateKey(w.T.Context(), "keys/any") // no opened key is in memory
	w.ReadsBack()
}
