// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/json"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// keksAttested checks that the log has each switch of the KEK that was decided, one after
// the other to the current one, and the end of each KEK that was left.
func (w *Oracle) keksAttested(events []*evidence.Event) {
	w.T.Helper()
	rec := w.kekRecord()
	if rec == nil || rec.Rotation == nil {
		return
	}
	current, provider := "", ""
	destroyed, left := map[string]int{}, []string{}
	for _, e := range events {
		switch d := e.Detail.(type) {
		case *evidence.KEKRotated:
			if current != "" {
				require.Equal(w.T, current, d.PreviousKeyID, "event %d: the KEK that was left", e.Seq)
				require.Equal(w.T, provider, d.PreviousProvider, "event %d: its provider", e.Seq)
			}
			current, provider = d.NewKeyID, d.NewProvider
			left = append(left, d.PreviousKeyID)
		case *evidence.KeyDestroyed:
			destroyed[d.KeyID]++
		}
	}
	require.Equal(w.T, rec.KEKID, current, "the KEK to which the log says that was switched last")
	require.Equal(w.T, rec.Provider, provider, "its provider")
	require.Empty(w.T, rec.Rotation.Leaves, "KEKs of whose end the log is not told")
	if rec.Rotation.Phase == keystore.KEKCompleted {
		for _, id := range left {
			require.Equal(w.T, 1, destroyed[id], "ends of %s", id)
		}
	}
	for id, n := range destroyed {
		require.Equal(w.T, 1, n, "ends of %s", id)
		require.NotContains(w.T, w.Disk.Keys("kek/keys/"), "kek/keys/"+id, "it was destroyed")
	}
}

// ownKEKsAttested checks that the log has each switch to and from KEKs of the tenant's own,
// and the end of each of these that its keys have left.
func (w *Oracle) ownKEKsAttested(events []*evidence.Event) {
	w.T.Helper()
	rec := w.Record()
	if rec.KEK == nil || rec.KEK.Rotation == nil {
		return
	}
	var last *evidence.KEKRotated
	destroyed, left := map[string]int{}, []string{}
	for _, e := range events {
		if e.Incarnation != rec.Incarnation {
			continue
		}
		switch d := e.Detail.(type) {
		case *evidence.KEKRotated:
			last = d
			left = append(left, d.PreviousKeyID)
		case *evidence.KeyDestroyed:
			destroyed[d.KeyID]++
		}
	}
	require.NotNil(w.T, last, "the log has no switch of the tenant's KEK")
	require.Equal(w.T, rec.KeyProvider(), last.NewProvider, "the provider to which the log says that was switched last")
	if id := rec.KEKID(); id != "" {
		require.Equal(w.T, id, last.NewKeyID, "the KEK to which the log says that was switched last")
	}
	for _, id := range left {
		if keystore.IsOwnKEK(id) && rec.KEK.Rotation.Phase == keystore.KEKCompleted {
			require.Equal(w.T, 1, destroyed[id], "ends of %s", id)
		}
	}
}

// providersAttested checks that the log has each change of providers: what it says last of
// one is whether there is such a provider.
func (w *Oracle) providersAttested(events []*evidence.Event) {
	w.T.Helper()
	there, denials := map[string]bool{}, map[string]int{}
	for _, e := range events {
		switch d := e.Detail.(type) {
		case *evidence.ProviderChanged:
			there[d.Provider] = len(d.New) > 0
		case *evidence.ProviderDenied:
			denials[d.Provider]++
		}
	}
	for _, key := range w.Disk.Keys("providers/") {
		name := strings.TrimPrefix(key, "providers/")
		var stored struct {
			Deleted bool            `json:"deleted"`
			Denial  json.RawMessage `json:"denial"`
		}
		require.NoError(w.T, json.Unmarshal(w.Disk.Value(key), &stored))
		require.False(w.T, stored.Deleted, "%s is deleted once the log has that", key)
		require.True(w.T, there[name], "the log says of %s that it is deleted", name)
		delete(there, name)
		if stored.Denial != nil {
			require.Positive(w.T, denials[name], "denials by %s", name)
		}
	}
	for name, is := range there {
		require.False(w.T, is, "the log does not say that %s is deleted", name)
	}
}
