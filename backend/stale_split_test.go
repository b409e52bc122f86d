// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A writer that waits for a page's lock looks again once it has it. The page may
// have split, and yet show behind a stale cache: to write it would bring it back
// over its children, and over what somebody has been told is there.
func TestWriteAfterASplitThatFailed(t *testing.T) {
	w := smallTenant(t)
	defer w.close()
	page := w.disk.Keys("pages/")[0]
	deleting, deletes := w.stopBefore("delete")
	split := w.beside(update, itemPath("splits"), secret(filler("splits", 20_000)))
	<-deleting
	waiting := w.beside(update, itemPath("bulk/1"), secret("waited"))
	w.quiet(nil) // it waits for the page's lock

	// The deletion fails with effect, and the next reader of the page is stopped:
	// nobody reads it any more but who does not look again.
	reading, readOn := make(chan struct{}), make(chan struct{})
	w.storage.Hook(func(op, key string) {
		if op == "get" && key == page {
			close(reading)
			<-readOn
		}
	})
	w.storage.FailNext(1, storagetest.AfterStale)
	deletes()
	require.Error(t, (<-split).err)
	select {
	case got := <-waiting:
		require.NoError(t, got.err)
		waiting <- got
	case <-reading:
	}
	for _, item := range []string{"bulk/2", "bulk/3", "bulk/4", "bulk/5"} {
		w.put(item, "acknowledged meanwhile")
	}
	close(readOn)
	require.NoError(t, (<-waiting).err)
	w.storage.Hook(nil)
	w.allowed["bulk/1"] = []string{"waited"}
	w.allowed["splits"] = []string{absent, filler("splits", 20_000)}
	w.readsBack()
}

// What a split that broke off has left over may be what counts by the time at which
// a sweep comes to delete it: the page above has split meanwhile.
func TestLeftoverThatCountsIsNotDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		defer w.close()
		w.lateChild().lands(w.disk) // its write failed, and took effect
		_, release := w.holdRotation()
		w.put("splits", filler("splits", 33_000))
		require.Len(t, w.allowed["splits"], 1)
		for _, key := range w.pageKeys() {
			require.False(t, strings.HasSuffix(key, "/p"), "it has split")
		}
		release()
		advance(time.Minute)
		w.readsBack()
		w.atRest()
		w.works()
	})
}
