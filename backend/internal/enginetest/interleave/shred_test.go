// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A reader that meets the shredding of its tenant is told that there is none.
func TestReadBesideTheShreddingOfItsTenant(t *testing.T) {
	for _, prefix := range []string{"pages/", "keys/"} {
		t.Run(prefix, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.NewOracle(enginetest.NewMount(t))
				w.Create()
				w.Put("a", "1")
				w.Bulk(20, 3000) // on several pages: then the first key that is read places the item
				w.Close()
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None)) // nothing in memory
				defer w.Close()
				reached, on := make(chan struct{}), make(chan struct{})
				shredding, goOn := make(chan struct{}), make(chan struct{})
				var first, second atomic.Bool
				w.Storage.Hook(func(op, key string) {
					if op == "get" && strings.HasPrefix(key, prefix) && first.CompareAndSwap(false, true) {
						close(reached)
						<-on
					}
					if op == "list" && strings.HasPrefix(key, "history/") && second.CompareAndSwap(false, true) {
						close(shredding)
						<-goOn
					}
					// the pages go after the keys: stop between the two
					if op == "delete" && strings.HasPrefix(key, "pages/") && second.CompareAndSwap(false, true) {
						close(shredding)
						<-goOn
					}
				})
				got := w.Concurrently(enginetest.Read, enginetest.ItemPath("a"), nil)
				<-reached
				gone := w.Concurrently(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
				<-shredding
				close(on)
				a := <-got
				close(goOn)
				<-gone
				require.Equal(t, 404, enginetest.Code(a.Resp, a.Err), "%v", a.Err)
			})
		})
	}
}
