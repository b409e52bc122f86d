// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A reader that meets the shredding of its tenant is told that there is none: after it has
// found a key or a page, that is destroyed while other pages are still there.
func TestReadBesideTheShreddingOfItsTenant(t *testing.T) {
	for _, c := range []struct {
		name, prefix string
		op           logical.Operation
		path         string
	}{
		{"an item's key", "keys/", enginetest.Read, enginetest.ItemPath("a")},
		{"an item's page", "pages/", enginetest.Read, enginetest.ItemPath("a")},
		{"the pages of a list", "pages/", enginetest.List, enginetest.TenantPath("/secrets/")},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.NewOracle(enginetest.NewMount(t))
				w.Create()
				w.Put("a", "1")
				w.Bulk(20, 3000) // on several pages: then the first key that is read places the item
				w.Close()
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None)) // nothing in memory
				defer w.Close()
				reached, on := make(chan string), make(chan struct{})
				gone, goOn := make(chan struct{}), make(chan struct{})
				var isReached, isGone atomic.Bool
				var read string
				w.Storage.Hook(func(op, key string) {
					switch {
					case op == "get" && strings.HasPrefix(key, c.prefix) && isReached.CompareAndSwap(false, true):
						reached <- key
						<-on
					case op == "delete" && strings.HasPrefix(key, "pages/") && key != read:
						<-goOn // it is there meanwhile
					}
				})
				w.Storage.Done(func(op, key string) {
					if op == "delete" && key == read && isGone.CompareAndSwap(false, true) {
						close(gone)
						<-goOn
					}
				})
				got := w.Concurrently(c.op, c.path, nil)
				read = <-reached
				shredded := w.Concurrently(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
				<-gone
				close(on)
				a := <-got
				close(goOn)
				<-shredded
				require.Equal(t, 404, enginetest.Code(a.Resp, a.Err), "%v", a.Err)
			})
		})
	}
}
