// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// What callers have seen of a rotation's progress holds after a restart, and after an
// error of storage that drops what is known of the pages.
func TestPercentDoesNotGoBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 60)
		w.MidSweep(func() {
			w.Act("pause", "paused")
			id := w.Rotations[len(w.Rotations)-1]
			before := w.Status(id)
			require.Positive(t, before["percent"])

			w.DropPages()
			require.GreaterOrEqual(t, w.Status(id)["percent"], before["percent"])

			w.Close()
			m := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
			defer m.Close()
			after := m.Status(id)
			require.GreaterOrEqual(t, after["percent"], before["percent"])
			require.Equal(t, before["items_rotated"], after["items_rotated"])
			m.Must(enginetest.Update, enginetest.Action(id, "resume"), nil)
			enginetest.Advance(time.Second)
			require.EqualValues(t, 100, m.Status(id)["percent"])
		})
	})
}

// What a rotation has done does not go back while pages split beside it.
func TestProgressDoesNotGoBack(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, id string) {
		last := 0
		for i := range 20 {
			w.Put(fmt.Sprintf("new/%d", i), enginetest.Filler("splits", 6000))
			rotated := w.Status(id)["items_rotated"].(map[string]int)["secrets"]
			require.GreaterOrEqual(t, rotated, last)
			last = rotated
		}
		require.Positive(t, last)
	})
}
