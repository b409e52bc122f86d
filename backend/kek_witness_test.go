// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// keks is what a witness keeps of the rotations of the KEK: how many were asked
// for, and which were acknowledged, latest last.
type keks struct {
	asked int
	acked []string
}

// rotateKEK starts a rotation of the KEK.
func (w *witness) rotateKEK() {
	w.keks.asked++
	w.do(update, "kek/rotate", nil, func(w *witness, resp *logical.Response) {
		w.keks.acked = append(w.keks.acked, resp.Data["kek_id"].(string))
	})
}

// midKEK starts a rotation of the KEK and runs f while it has moved the keys of
// some tenants and waits for a place in the pool, without a lock. If a fault comes
// before, f runs all the same.
func (w *witness) midKEK(f func()) {
	held := w.holdAfter("keys/")
	w.rotateKEK()
	advance(time.Second)
	w.storage.Hook(nil)
	f()
	if held.Load() {
		w.b.Pages.Release()
	}
}

// kekRecord reads the record of the KEK from disk, nil if there is none.
func (w *witness) kekRecord() *keystore.KEKRecord {
	w.t.Helper()
	value := w.disk.Value("kek/current")
	if value == nil {
		return nil
	}
	rec := new(keystore.KEKRecord)
	require.NoError(w.t, json.Unmarshal(value, rec))
	return rec
}

// kekOf returns the KEK that an entry of a key names.
func (w *witness) kekOf(key string) string {
	w.t.Helper()
	var entry map[int]any
	require.NoError(w.t, cbor.Unmarshal(w.disk.Value(key), &entry), key)
	return entry[2].(string)
}

// wrapped checks what holds at every moment: the current KEK is there, and so is
// every other that the key of a tenant names.
func (w *witness) wrapped() {
	w.t.Helper()
	rec := w.kekRecord()
	if rec == nil {
		require.Empty(w.t, w.disk.Keys("tenants/"), "tenants without a KEK")
		return
	}
	stored := w.disk.Keys("kek/keys/")
	require.Contains(w.t, stored, "kek/keys/"+rec.KEKID, "the current KEK")
	for _, key := range w.tenantKeys() {
		require.Contains(w.t, stored, "kek/keys/"+w.kekOf(key), "the KEK of %s", key)
	}
}

// recorded reports whether the tenant has a record on disk.
func (w *witness) recorded() bool {
	return slices.ContainsFunc(w.disk.Keys("tenants/"), func(key string) bool { return strings.HasSuffix(key, testTenant) })
}

// tenantKeys lists the entries of all keys of tenants on disk.
func (w *witness) tenantKeys() (all []string) {
	w.t.Helper()
	for _, listed := range w.disk.Keys("tenants/") {
		t := new(tenant.Record)
		require.NoError(w.t, json.Unmarshal(w.disk.Value(listed), t))
		if t.State == tenant.Shredding {
			continue // nobody needs its keys
		}
		keys := w.disk.Keys("keys/" + t.Incarnation + "/")
		require.GreaterOrEqual(w.t, len(keys), 2, "keys of %s", listed)
		all = append(all, keys...)
	}
	return all
}

// kekAtRest checks what has to hold once every rotation of the KEK has come to an
// end: of one that completed, nothing is on another KEK, and none that ever was
// the current one is left.
func (w *witness) kekAtRest() {
	w.t.Helper()
	w.wrapped()
	rec := w.kekRecord()
	if rec == nil || rec.Rotation == nil {
		require.Empty(w.t, w.keks.acked, "an acknowledged rotation of the KEK is gone")
		return
	}
	require.Equal(w.t, keystore.KEKCompleted, rec.Rotation.Phase, "the rotation of the KEK: %v", rec.Rotation.Failures)
	for _, key := range w.tenantKeys() {
		require.Equal(w.t, rec.KEKID, w.kekOf(key), "the KEK of %s", key)
	}
	require.NotContains(w.t, w.disk.Keys("kek/keys/"), "kek/keys/"+rec.Rotation.From)
	if n := len(w.keks.acked); n > 0 && n == w.keks.asked {
		require.Equal(w.t, w.keks.acked[n-1], rec.KEKID, "the latest rotation of the KEK")
	}
}

// kekRotates checks that every key of every tenant opens: by a rotation of the
// KEK, which reads them all.
func (w *witness) kekRotates() {
	w.t.Helper()
	if w.keks.asked == 0 {
		return // it would make changes that the scenario is not about
	}
	w.keks.asked++
	w.must(update, "kek/rotate", map[string]any{"idempotency_key": "last"})
	advance(time.Minute)
	st := w.must(read, "kek", nil)
	require.Equal(w.t, "completed", st["status"])
	require.Empty(w.t, st["older_kek_ids"])
	require.Len(w.t, w.disk.Keys("kek/keys/"), 1)
	w.keks.acked = append(w.keks.acked, st["kek_id"].(string))
	w.kekAtRest()
	w.b.InvalidateKey(w.t.Context(), "keys/any") // no opened key is in memory
	w.readsBack()
}
