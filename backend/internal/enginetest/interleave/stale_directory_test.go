// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

// The tests of this file let the directory of a tenant's pages be wrong, or
// become so at the worst moment, and show that nothing acknowledged is lost.

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A List that shows no page, taken before the first page came, must not be
// believed after it.
func TestListBegunBeforeTheFirstPage(t *testing.T) {
	t.Run("written here", func(t *testing.T) {
		m := enginetest.WithTenant(t)
		m.Must(enginetest.Read, enginetest.TenantPath(""), nil) // loads the directory: it is empty
		writing, write := m.StopBefore("put")
		written := m.Concurrently(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("precious"))
		<-writing
		m.DropPages()
		listing, install := m.StopAfter("list")
		counted := m.Concurrently(enginetest.Read, enginetest.TenantPath(""), nil)
		<-listing
		write()
		require.NoError(t, (<-written).Err)
		install()
		require.NoError(t, (<-counted).Err)
		require.Equal(t, "precious", m.Value("a"))
	})
	t.Run("written by another node", func(t *testing.T) {
		m := enginetest.WithTenant(t)
		m.DropPages()
		listing, install := m.StopAfter("list")
		counted := m.Concurrently(enginetest.Read, enginetest.TenantPath(""), nil)
		<-listing
		other := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer other.Close()
		other.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("precious"))
		m.DropPages()
		install()
		require.NoError(t, (<-counted).Err)
		require.Equal(t, "precious", m.Value("a"))
	})
}

// An engine whose directory another node has left behind writes: into a tenant's
// first page, which it takes for missing, and into a page that has split. Both
// look again first.
func TestWriteBehindAnotherNode(t *testing.T) {
	t.Run("the first page", func(t *testing.T) {
		m := enginetest.WithTenant(t)
		m.Must(enginetest.Read, enginetest.TenantPath(""), nil) // loads the directory: it is empty
		other := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer other.Close()
		other.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("precious"))
		m.Must(enginetest.Update, enginetest.ItemPath("b"), enginetest.Secret("too"))
		require.Equal(t, "precious", m.Value("a"))
		require.Equal(t, "too", m.Value("b"))
	})
	t.Run("a page that split", func(t *testing.T) {
		w := enginetest.SmallTenant(t)
		defer w.Close()
		other := w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		defer other.Close()
		other.Put("splits", enginetest.Filler("splits", 20_000))
		require.Greater(t, len(w.Disk.Keys("pages/")), 1)
		w.Allowed = other.Allowed
		w.Put("bulk/1", "written behind the other node")
		w.Put("new", "so is this")
		w.ReadsBack()
		other = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		defer other.Close()
		other.ReadsBack()
	})
}

// A reader that finds no page where the directory had one must not take it for
// empty: it has split meanwhile, and the directory, which would tell, has been
// dropped.
func TestReadOfAPageThatSplitAndWasForgotten(t *testing.T) {
	for _, item := range []string{"bulk/1", "bulk/2", "bulk/3", "bulk/4"} {
		w := enginetest.SmallTenant(t)
		reading, readOn := w.StopBefore("get")
		answer := w.Concurrently(enginetest.Read, enginetest.ItemPath(item), nil)
		<-reading
		w.Put("splits", enginetest.Filler("splits", 20_000))
		w.DropPages()
		readOn()
		got := <-answer
		require.NoError(t, got.Err, item)
		require.Equal(t, enginetest.Filler(item, 3000), got.Resp.Data["data"].(map[string]any)["value"])
		w.Close()
	}
}

// What an engine believes of its pages after a write has failed is what a new one
// finds.
func TestFailedWriteIsNotBelieved(t *testing.T) {
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale} {
		for name, c := range map[string]struct{ op, value string }{
			"a page":  {"put", "small"},
			"a child": {"put", enginetest.Filler("splits", 20_000)},
			"a split": {"delete", enginetest.Filler("splits", 20_000)},
		} {
			t.Run(name+", "+fault.String(), func(t *testing.T) {
				w := enginetest.SmallTenant(t)
				defer w.Close()
				w.Must(enginetest.Read, enginetest.TenantPath(""), nil)
				w.Storage.Fail(enginetest.FailOn(c.op, "pages/", fault))
				w.Put("fails", c.value)
				w.Storage.Fail(nil)
				require.Len(t, w.Allowed["fails"], 2, "the write is to fail")
				fresh := enginetest.OpenMount(t, w.Disk.Clone(), 0, storagetest.None)
				defer fresh.Close()
				for _, path := range []string{"", "/dek"} {
					require.Equal(t, fresh.Must(enginetest.Read, enginetest.TenantPath(path), nil), w.Must(enginetest.Read, enginetest.TenantPath(path), nil))
				}
				w.ReadsBack()
			})
		}
	}
	t.Run("the first page", func(t *testing.T) {
		m := enginetest.WithTenant(t)
		m.Must(enginetest.Read, enginetest.TenantPath(""), nil)
		m.Storage.Fail(enginetest.FailOn("put", "pages/", storagetest.After))
		_, err := m.Call(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("not acknowledged"))
		require.Error(t, err)
		m.Storage.Fail(nil)
		require.Equal(t, 1, m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["item_counts"].(map[string]int)["secrets"])
	})
}
