// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// A writer that waits for a page's lock looks again once it has it. The page may
// have split, and yet show behind a stale cache: to write it would bring it back
// over its children, and over what somebody has been told is there.
func TestWriteAfterASplitThatFailed(t *testing.T) {
	w := enginetest.SmallTenant(t)
	defer w.Close()
	page := w.Disk.Keys("pages/")[0]
	deleting, deletes := w.StopBefore("delete")
	split := w.Concurrently(enginetest.Update, enginetest.ItemPath("splits"), enginetest.Secret(enginetest.Filler("splits", 20_000)))
	<-deleting
	waiting := w.Concurrently(enginetest.Update, enginetest.ItemPath("bulk/1"), enginetest.Secret("waited"))
	w.Quiet(nil) // it waits for the page's lock

	// The deletion fails with effect, and the next reader of the page is stopped:
	// nobody reads it any more but who does not look again.
	reading, readOn := make(chan struct{}), make(chan struct{})
	w.Storage.Hook(func(op, key string) {
		if op == "get" && key == page {
			close(reading)
			<-readOn
		}
	})
	w.FailStale(1, "delete", func(key string) bool { return key == page })
	deletes()
	require.Error(t, (<-split).Err)
	select {
	case got := <-waiting:
		require.NoError(t, got.Err)
		waiting <- got
	case <-reading:
	}
	for _, item := range []string{"bulk/2", "bulk/3", "bulk/4", "bulk/5"} {
		w.Put(item, "acknowledged meanwhile")
	}
	close(readOn)
	require.NoError(t, (<-waiting).Err)
	w.Storage.Hook(nil)
	w.Allowed["bulk/1"] = []string{"waited"}
	w.Allowed["splits"] = []string{enginetest.Absent, enginetest.Filler("splits", 20_000)}
	w.ReadsBack()
}

// What a split that broke off has left over may be what counts by the time at which
// a sweep comes to delete it: the page above has split meanwhile.
func TestLeftoverThatCountsIsNotDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		w.DelayedChild().Lands(w.Disk) // its write failed, and took effect
		_, release := w.HoldRotation()
		w.Put("splits", enginetest.Filler("splits", 33_000))
		require.Len(t, w.Allowed["splits"], 1)
		for _, key := range w.PageKeys() {
			require.False(t, strings.HasSuffix(key, "/p"), "it has split")
		}
		release()
		enginetest.Advance(time.Minute)
		w.ReadsBack()
		w.AtRest()
		w.Works()
	})
}
