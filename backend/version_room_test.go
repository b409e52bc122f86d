// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A tenant that is rotated again and again within the retention keeps all its
// versions, until its record has no room for another. It can still be written to,
// read and deleted, and rotated once old versions are gone.
func TestRecordHasRoomForSoManyVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		w := newWitness(m)
		w.create()
		w.bulk(3, 10)
		key := func(n int) string { return strings.Repeat("<", 200) + fmt.Sprintf("%0312d", n) } // JSON makes six of each <
		var first string
		n := 0
		for ; ; n++ {
			resp, err := m.call(update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": key(n)})
			if code(resp, err) != 200 {
				break
			}
			if n == 0 {
				first = resp.Data["rotation_id"].(string)
			}
			synctest.Wait()
		}
		require.Greater(t, n, 102)
		m.refused(409, "no room for another: destroy old ones, or wait until retired_key_retention", update, tenantPath("/dek/rotate"), nil)
		record, err := json.Marshal(w.record())
		require.NoError(t, err)
		require.Less(t, len(record), 300<<10)
		require.Equal(t, "completed", m.must(update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": key(n - 1)})["status"])
		m.refused(409, "rotation "+first+", which is older than the history", update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": key(0)})

		// Nothing but the number of versions is in the way.
		m.must(update, tenantPath(""), map[string]any{"display_name": strings.Repeat("<", 512)})
		w.bulk(3, 10)
		for version := 1; version <= 5; version++ {
			m.must(update, tenantPath(fmt.Sprintf("/dek/versions/%d/destroy", version)), nil)
		}
		m.rotated(nil)
		m.hourly(8 * 24 * time.Hour) // the retention passes
		m.rotated(nil)
		w.readsBack()
		m.must(del, tenantPath(""), map[string]any{"deletion_window": "0"})
	})
}

// Destroyed versions do not take the room of new ones for good, however long the
// keys of requests are that they have.
func TestRecordOfDestroyedVersionsHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.destroyAtOnce()
		w := newWitness(m)
		w.create()
		w.put("a", "1")
		for n := range 120 {
			// JSON makes six bytes of each <.
			m.rotated(map[string]any{"idempotency_key": strings.Repeat("<", 500) + fmt.Sprintf("%012d", n)})
		}
		w.readsBack()
	})
}
