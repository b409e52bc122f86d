// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
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
// the first page, which shows how many items pages have, and of the others at once.
func TestListReadsPagesAtOnce(t *testing.T) {
	const pages, latency = 16, 10 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 12*pages)
		defer w.Close()
		require.Greater(t, len(w.PageKeys()), pages)
		for _, limit := range []int{1, 30, 90} {
			w.DropPages()
			w.Must(enginetest.Read, enginetest.ItemPath("bulk/1"), nil) // the pages are listed
			w.OnPage("get", func() { <-time.After(latency) })           // by the bubble's clock
			began := time.Now()
			listed := w.Must(enginetest.List, enginetest.TenantPath("/secrets"), map[string]any{"limit": limit})["keys"].([]string)
			w.Storage.Hook(nil)
			require.Len(t, listed, limit)
			require.LessOrEqual(t, time.Since(began), 2*latency, "%d items", limit)
		}
	})
}
