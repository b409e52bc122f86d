// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestPartialListNamesWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 60)
		defer func() { w.Close() }()
		whole, got := names(w, map[string]any{"partial": true})
		require.Len(t, whole, 60)
		require.Empty(t, got["unreadable"])
		require.Empty(t, w.Must(enginetest.List, enginetest.TenantPath("/apiKeys/"), map[string]any{"partial": true}), "of which Vault makes a 404")
		pages := w.PageKeys()
		damageKey(w, pages[0])
		w.Disk.Set(pages[2], nil) // removed from outside
		w = afresh(w)
		_, err := w.Call(enginetest.List, enginetest.TenantPath("/secrets/"), nil)
		require.ErrorContains(t, err, "page does not open")
		some, got := names(w, map[string]any{"partial": true})
		require.True(t, slices.IsSorted(some))
		gaps := got["unreadable"].([]map[string]any)
		require.Len(t, gaps, 2)
		for i, page := range []string{pages[0], pages[2]} {
			require.Equal(t, page[strings.LastIndexByte(page, '/')+1:], gaps[i]["place"])
			require.NotEmpty(t, gaps[i]["reason"])
		}
		var paged []string
		for after := ""; ; after = paged[len(paged)-1] {
			resp, err := w.Call(enginetest.List, enginetest.TenantPath("/secrets/"), map[string]any{"partial": true, "limit": 7, "after": after})
			require.NoError(t, err)
			keys, _ := resp.Data["keys"].([]string)
			if len(keys) == 0 {
				break
			}
			paged = append(paged, keys...)
		}
		slices.Sort(paged)
		require.Equal(t, some, paged)
		for item := range w.Allowed {
			require.Equal(t, slices.Contains(some, item), reads(w, item) == 200, item)
		}
		for _, page := range pages {
			w.Disk.Damage(storagetest.ErrAltered, storagetest.Below(page))
		}
		w = afresh(w)
		none, got := names(w, map[string]any{"partial": true})
		require.Empty(t, none)
		require.Len(t, got["unreadable"], len(pages))
		status, err := logical.RespondErrorCommon(&logical.Request{Operation: enginetest.List}, &logical.Response{Data: got}, nil)
		require.NoError(t, err)
		require.Zero(t, status, "Vault passes the answer on, and makes no 404 of it")
		w.Refused(400, "partial must be true or false", enginetest.List, enginetest.TenantPath("/secrets/"), map[string]any{"partial": "maybe"})
	})
}

// The first count reads each page once, though pages split meanwhile, and once for all
// callers.
func TestFirstCountReadsEachPageOnce(t *testing.T) {
	m := enginetest.NewMount(t)
	w := enginetest.NewOracle(m)
	w.Create()
	w.Bulk(900, 3000)
	w = afresh(w)
	defer w.Close()
	pages := len(w.PageKeys())
	require.Greater(t, pages, 60)
	var reads, splits atomic.Int64
	var all sync.WaitGroup
	w.Storage.Hook(func(op, key string) {
		if op != "get" || !strings.HasPrefix(key, "pages/") || reads.Add(1)%10 != 0 {
			return
		}
		// A page splits while others are counted. The read does not wait for that: it may be
		// one of a write, which holds its page.
		if n := splits.Add(1); n < 20 {
			all.Go(func() {
				_, err := w.Call(enginetest.Update, enginetest.ItemPath(fmt.Sprintf("large/%d", n)), enginetest.Secret(enginetest.Filler("large", 30_000)))
				assert.NoError(t, err)
			})
		}
	})
	for range 20 {
		all.Go(func() { w.Must(enginetest.Read, enginetest.TenantPath(""), nil) })
	}
	all.Wait()
	w.Storage.Hook(nil)
	require.Greater(t, splits.Load(), int64(3))
	t.Logf("%d reads for %d pages, %d writes that split, 20 callers", reads.Load(), pages, splits.Load())
	require.Less(t, reads.Load(), int64(pages)+12*splits.Load())
}
