// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// diesInASweep starts a rotation, and the process dies while its pages move.
func diesInASweep(w *enginetest.Oracle) {
	w.HoldAfter("pages/")
	w.Rotate()
	synctest.Wait()
	w.Crash()
}

// An entry of several intents that cannot be read: its rotations are found by their records,
// and it stays, since nobody knows who else was in it.
func TestUnreadableEntryOfSeveralIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 25)
		defer func() { w.Close() }()
		diesInASweep(w)
		rec := w.Record()
		rec.Rotation.IntentID += ":1/2"
		stored, err := json.Marshal(rec)
		require.NoError(t, err)
		w.Disk.Set("tenants/"+enginetest.ShardName(enginetest.TenantID)+"/"+enginetest.TenantID, stored)
		damageKey(w, w.Disk.Keys("wal/")[0])

		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		w.Rests(2)
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		require.Len(t, w.Disk.Keys("wal/"), 1)
		require.Equal(t, map[string]int{"wal": 1}, w.Must(enginetest.Read, "status", nil)["damaged_entries"])
		w.ReadsBack()
	})
}
