// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Small items whose place is on the page of a large one do not have the large one written
// again with each of them.
func TestSmallItemsBesideALargeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		enginetest.Slowly(m)
		w := enginetest.NewOracle(m)
		defer w.Close()
		w.Create()
		large := func() { w.Put("large", enginetest.Filler("large", 250_000)) }
		large()
		small := func(i int) string {
			return puts(m, func() { w.Put(fmt.Sprintf("small/%d", i), enginetest.Filler("x", 300)) })
		}
		for i := range 20 {
			require.Equal(t, "d", small(i), "small item %d", i)
		}
		require.Equal(t, "d", small(3), "one that is there")
		require.Empty(t, puts(m, func() {
			refused := enginetest.Secret("x")
			refused["cas"] = 99
			m.Refused(409, "revision", enginetest.Update, enginetest.ItemPath("small/1"), refused)
		}), "a change that is refused")
		w.ReadsBack()

		w.Rotate()
		enginetest.Advance(time.Minute)
		require.Len(t, w.PageKeys(), 1)
		require.Empty(t, w.DeltaKeys(), "the rotation has taken them into the page")
		require.Equal(t, "d", small(20))
		w.ReadsBack()

		kinds, i := "", 21
		for ; len(w.PageKeys()) == 1; i++ {
			require.Less(t, i, 200, "the page is never split")
			kinds += small(i)
			if i%10 == 0 {
				w.Rotate()
				enginetest.Advance(time.Minute)
			}
		}
		require.Regexp(t, "^d{10,}p+$", kinds)
		require.Greater(t, i, 40, "the page is split once the small items would fill one")
		w.ReadsBack()
		require.NotContains(t, strings.TrimLeft(puts(m, large), "p"), "d", "a large item is put with its page")
		w.ReadsBack()
		w.AtRest()
	})
}

// A part of a list that lies on several pages costs the time of two reads from storage: of
// the first page, which shows how many items pages have, and of the others at once. Where
// items lie is random: if the first page has more than the others, too few are read at once,
// and what is still missing costs one more read, or two. So a list takes two reads of some
// tenants, and hardly more of all.
func TestListReadsPagesAtOnce(t *testing.T) {
	const tenants, pages, latency = 20, 16, 10 * time.Millisecond
	limits := []int{1, 30, 90}
	took := map[int][]time.Duration{}
	for range tenants {
		synctest.Test(t, func(t *testing.T) {
			w := enginetest.Filled(t, 12*pages)
			defer func() { w.Close() }()
			require.Greater(t, len(w.PageKeys()), pages)
			for _, limit := range limits {
				w.Close()
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None)) // no page is in memory
				w.Must(enginetest.Read, enginetest.ItemPath("bulk/1"), nil)    // the pages are listed
				w.OnPage("get", func() { <-time.After(latency) })              // by the bubble's clock
				began := time.Now()
				listed := w.Must(enginetest.List, enginetest.TenantPath("/secrets"), map[string]any{"limit": limit})["keys"].([]string)
				w.Storage.Hook(nil)
				require.Len(t, listed, limit)
				took[limit] = append(took[limit], time.Since(began))
			}
		})
	}
	for limit, times := range took {
		var all time.Duration
		for _, one := range times {
			all += one
		}
		require.LessOrEqual(t, slices.Min(times), 2*latency, "%d items: %v", limit, times)
		require.LessOrEqual(t, all/tenants, 7*latency/2, "%d items: %v", limit, times)
	}
}
