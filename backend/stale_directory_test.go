// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// The tests of this file let the directory of a tenant's pages be wrong, or
// become so at the worst moment, and show that nothing acknowledged is lost.

// stop returns a hook that stops the first operation of that name on pages:
// reached is closed when it has come there, and goOn lets it go on.
func stop(name string) (hook func(op, key string), reached chan struct{}, goOn func()) {
	reached, on := make(chan struct{}), make(chan struct{})
	var came atomic.Bool
	hook = func(op, key string) {
		if op == name && strings.HasPrefix(key, "pages/") && came.CompareAndSwap(false, true) {
			close(reached)
			<-on
		}
	}
	return hook, reached, func() { close(on) }
}

// stopBefore stops the next operation of that name on pages before it is made,
// stopAfter after it, when its outcome is settled but not known.
func (m *mount) stopBefore(name string) (reached chan struct{}, goOn func()) {
	hook, reached, goOn := stop(name)
	m.storage.Hook(hook)
	return reached, goOn
}

func (m *mount) stopAfter(name string) (reached chan struct{}, goOn func()) {
	hook, reached, goOn := stop(name)
	m.storage.Done(hook)
	return reached, goOn
}

// answered is what a request that runs beside the test came to.
type answered struct {
	resp *logical.Response
	err  error
}

func (m *mount) beside(op logical.Operation, path string, data map[string]any) chan answered {
	c := make(chan answered, 1)
	go func() {
		resp, err := m.call(op, path, data)
		c <- answered{resp, err}
	}()
	return c
}

// dropPages lets the engine drop its directory, as a failed write of any page does,
// or a change by another node.
func (m *mount) dropPages() {
	m.t.Helper()
	keys := m.disk.Keys("keys/") // keys/<incarnation>/<key_id>
	require.NotEmpty(m.t, keys)
	m.b.InvalidateKey(context.Background(), "pages/"+strings.Split(keys[0], "/")[1]+"/p")
}

// value reads an item back.
func (m *mount) value(item string) string {
	m.t.Helper()
	return m.must(read, itemPath(item), nil)["data"].(map[string]any)["value"].(string)
}

// A List that shows no page, taken before the first page came, must not be
// believed after it.
func TestListBegunBeforeTheFirstPage(t *testing.T) {
	t.Run("written here", func(t *testing.T) {
		m := withTenant(t)
		m.must(read, tenantPath(""), nil) // loads the directory: it is empty
		writing, write := m.stopBefore("put")
		written := m.beside(update, itemPath("a"), secret("precious"))
		<-writing
		m.dropPages()
		listing, install := m.stopAfter("list")
		counted := m.beside(read, tenantPath(""), nil)
		<-listing
		write()
		require.NoError(t, (<-written).err)
		install()
		require.NoError(t, (<-counted).err)
		require.Equal(t, "precious", m.value("a"))
	})
	t.Run("written by another node", func(t *testing.T) {
		m := withTenant(t)
		m.dropPages()
		listing, install := m.stopAfter("list")
		counted := m.beside(read, tenantPath(""), nil)
		<-listing
		other := openMount(t, m.disk, 0, storagetest.None)
		defer other.close()
		other.must(update, itemPath("a"), secret("precious"))
		m.dropPages()
		install()
		require.NoError(t, (<-counted).err)
		require.Equal(t, "precious", m.value("a"))
	})
}

// An engine whose directory another node has left behind writes: into a tenant's
// first page, which it takes for missing, and into a page that has split. Both
// look again first.
func TestWriteBehindAnotherNode(t *testing.T) {
	t.Run("the first page", func(t *testing.T) {
		m := withTenant(t)
		m.must(read, tenantPath(""), nil) // loads the directory: it is empty
		other := openMount(t, m.disk, 0, storagetest.None)
		defer other.close()
		other.must(update, itemPath("a"), secret("precious"))
		m.must(update, itemPath("b"), secret("too"))
		require.Equal(t, "precious", m.value("a"))
		require.Equal(t, "too", m.value("b"))
	})
	t.Run("a page that split", func(t *testing.T) {
		w := smallTenant(t)
		defer w.close()
		other := w.on(openMount(t, w.disk, 0, storagetest.None))
		defer other.close()
		other.put("splits", filler("splits", 20_000))
		require.Greater(t, len(w.disk.Keys("pages/")), 1)
		w.allowed = other.allowed
		w.put("bulk/1", "written behind the other node")
		w.put("new", "so is this")
		w.readsBack()
		other = w.on(openMount(t, w.disk, 0, storagetest.None))
		defer other.close()
		other.readsBack()
	})
}

// A reader that finds no page where the directory had one must not take it for
// empty: it has split meanwhile, and the directory, which would tell, has been
// dropped.
func TestReadOfAPageThatSplitAndWasForgotten(t *testing.T) {
	for _, item := range []string{"bulk/1", "bulk/2", "bulk/3", "bulk/4"} {
		w := smallTenant(t)
		reading, readOn := w.stopBefore("get")
		answer := w.beside(read, itemPath(item), nil)
		<-reading
		w.put("splits", filler("splits", 20_000))
		w.dropPages()
		readOn()
		got := <-answer
		require.NoError(t, got.err, item)
		require.Equal(t, filler(item, 3000), got.resp.Data["data"].(map[string]any)["value"])
		w.close()
	}
}

// What an engine believes of its pages after a write has failed is what a new one
// finds.
func TestFailedWriteIsNotBelieved(t *testing.T) {
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale} {
		for name, c := range map[string]struct{ op, value string }{
			"a page":  {"put", "small"},
			"a child": {"put", filler("splits", 20_000)},
			"a split": {"delete", filler("splits", 20_000)},
		} {
			t.Run(name+", "+fault.String(), func(t *testing.T) {
				w := smallTenant(t)
				defer w.close()
				w.must(read, tenantPath(""), nil)
				w.storage.Fail(on(c.op, "pages/", fault))
				w.put("fails", c.value)
				w.storage.Fail(nil)
				require.Len(t, w.allowed["fails"], 2, "the write is to fail")
				fresh := openMount(t, w.disk.Clone(), 0, storagetest.None)
				defer fresh.close()
				for _, path := range []string{"", "/dek"} {
					require.Equal(t, fresh.must(read, tenantPath(path), nil), w.must(read, tenantPath(path), nil))
				}
				w.readsBack()
			})
		}
	}
	t.Run("the first page", func(t *testing.T) {
		m := withTenant(t)
		m.must(read, tenantPath(""), nil)
		m.storage.Fail(on("put", "pages/", storagetest.After))
		_, err := m.call(update, itemPath("a"), secret("not acknowledged"))
		require.Error(t, err)
		m.storage.Fail(nil)
		require.Equal(t, 1, m.must(read, tenantPath(""), nil)["item_counts"].(map[string]int)["secrets"])
	})
}
