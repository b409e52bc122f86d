// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// What callers have seen of a rotation's progress holds after a restart, and after an
// error of storage that drops what is known of the pages.
func TestPercentDoesNotGoBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 60)
		w.midSweep(func() {
			w.act("pause", "paused")
			id := w.rotations[len(w.rotations)-1]
			before := w.status(id)
			require.Positive(t, before["percent"])

			w.dropPages()
			require.GreaterOrEqual(t, w.status(id)["percent"], before["percent"])

			w.close()
			m := openMount(t, w.disk, 0, storagetest.None)
			defer m.close()
			after := m.status(id)
			require.GreaterOrEqual(t, after["percent"], before["percent"])
			require.Equal(t, before["items_rotated"], after["items_rotated"])
			m.must(update, action(id, "resume"), nil)
			advance(time.Second)
			require.EqualValues(t, 100, m.status(id)["percent"])
		})
	})
}
