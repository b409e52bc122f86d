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

// withJunk is a witness of a tenant among whose pages lies an entry that is none, so
// that they can neither be listed nor counted.
func withJunk(t *testing.T) *witness {
	t.Helper()
	w := newWitness(newMount(t))
	w.create()
	w.put("a", "1")
	inc := w.record().Incarnation
	w.close()
	w.disk.Set("pages/"+inc+"/junk", []byte("x"))
	return w.on(openMount(t, w.disk, 0, storagetest.None))
}

// What cannot be counted is shredded all the same.
func TestShredWithAnEntryThatIsNoPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withJunk(t)
		defer w.close()
		_, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		require.NoError(t, err)
		for range 5 {
			advance(time.Minute)
			w.tick()
		}
		require.Empty(t, w.disk.Keys("keys/"), "the keys of a tenant that is to be shredded")
	})
}

// What is written after a page was removed from outside is read again.
func TestWriteAfterTheRootWasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(newMount(t))
		defer w.close()
		w.create()
		w.put("a", "1")
		w.disk.Set(w.disk.Keys("pages/")[0], nil)
		w.must(update, itemPath("b"), secret("2"))
		require.Equal(t, "2", w.value("b"))
	})
}

func TestListDoesNotPassOverADamagedPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(newMount(t))
		w.create()
		w.put("a", "1")
		w.close()
		key := w.disk.Keys("pages/")[0]
		page := w.disk.Value(key)
		page[0] ^= 0x80 // the format
		w.disk.Set(key, page)
		w = w.on(openMount(t, w.disk, 0, storagetest.None))
		defer w.close()
		resp, err := w.call(list, tenantPath("/secrets"), nil)
		require.Equal(t, 500, code(resp, err), "the page does not open")
		w.must(read, tenantPath(""), nil)
		resp, err = w.call(list, tenantPath("/secrets"), nil)
		require.Equal(t, 500, code(resp, err), "nor does it after it was counted: %v", resp)
	})
}

// What storage held of the schedule, before it was in memory, is deleted.
func TestFormerScheduleIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.must(update, tenantPath(""), nil)
		m.close()
		m.disk.Set("schedule/floors", []byte(`{"rotated":"2026-01-01"}`))
		m.disk.Set("schedule/rotated/2026-01-01/3f/"+testTenant, []byte{})
		m.disk.Set("schedule/failed/all/3f/"+testTenant, []byte{})
		m = openMount(t, m.disk, 0, storagetest.None)
		defer m.close()
		synctest.Wait()
		require.Empty(t, m.disk.Keys("schedule/"))
		require.NotEmpty(t, m.disk.Keys("tenants/"))
	})
}
