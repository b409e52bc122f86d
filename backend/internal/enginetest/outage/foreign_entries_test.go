// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// What cannot be counted is shredded all the same.
func TestShredWithAnEntryThatIsNoPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithForeignEntry(t)
		defer w.Close()
		_, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.NoError(t, err)
		for range 5 {
			enginetest.Advance(time.Minute)
			w.Tick()
		}
		require.Empty(t, w.Disk.Keys("keys/"), "the keys of a tenant that is to be shredded")
	})
}

// What is written after a page was removed from outside is read again.
func TestWriteAfterTheRootWasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.NewOracle(enginetest.NewMount(t))
		defer w.Close()
		w.Create()
		w.Put("a", "1")
		w.Disk.Set(w.Disk.Keys("pages/")[0], nil)
		w.Must(enginetest.Update, enginetest.ItemPath("b"), enginetest.Secret("2"))
		require.Equal(t, "2", w.Value("b"))
	})
}

func TestListDoesNotPassOverADamagedPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.NewOracle(enginetest.NewMount(t))
		w.Create()
		w.Put("a", "1")
		w.Close()
		key := w.Disk.Keys("pages/")[0]
		page := w.Disk.Value(key)
		page[0] ^= 0x80 // the format
		w.Disk.Set(key, page)
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		defer w.Close()
		resp, err := w.Call(enginetest.List, enginetest.TenantPath("/secrets"), nil)
		require.Equal(t, 500, enginetest.Code(resp, err), "the page does not open")
		w.Must(enginetest.Read, enginetest.TenantPath(""), nil)
		resp, err = w.Call(enginetest.List, enginetest.TenantPath("/secrets"), nil)
		require.Equal(t, 500, enginetest.Code(resp, err), "nor does it after it was counted: %v", resp)
	})
}

// What storage held of the schedule, before it was in memory, is deleted.
func TestFormerScheduleIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Close()
		m.Disk.Set("schedule/floors", []byte(`{"rotated":"2026-01-01"}`))
		m.Disk.Set("schedule/rotated/2026-01-01/3f/"+enginetest.TenantID, []byte{})
		m.Disk.Set("schedule/failed/all/3f/"+enginetest.TenantID, []byte{})
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		synctest.Wait()
		require.Empty(t, m.Disk.Keys("schedule/"))
		require.NotEmpty(t, m.Disk.Keys("tenants/"))
	})
}
