// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// bulk is a request with so many items, more than are written under a lock held once, as to
// be a bulk write. The first of them is of its own.
const bulk = 5001

func bulkItems(own string) map[string]any {
	items := make([]any, bulk)
	for n := range items {
		items[n] = map[string]any{"kind": "secrets", "name": fmt.Sprintf("shared/%d", n), "data": map[string]any{"value": own}}
	}
	items[0] = map[string]any{"kind": "secrets", "name": "own/" + own, "data": map[string]any{"value": own}}
	return map[string]any{"items": items}
}

func allWritten(t *testing.T, a enginetest.Answered) {
	t.Helper()
	require.NoError(t, a.Err)
	for _, r := range a.Resp.Data["results"].([]map[string]any) {
		require.NotContains(t, r, "error")
	}
}

// Bulk writes of a tenant that come while one is made are made together: each page is put
// once for all of them. Each has its own results.
func TestBulkWritesAreMadeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const joined = 10 // eight as one, and two
		w := enginetest.SmallTenant(t)
		defer func() { w.Close() }()
		w.Must(enginetest.Update, enginetest.TenantPath("/items"), bulkItems("before"))
		pages := len(w.PageKeys())
		require.Greater(t, pages, 10)
		enginetest.Advance(time.Second)
		puts := 0
		w.Storage.Hook(func(op, key string) {
			if op == "put" && strings.HasPrefix(key, "pages/") {
				<-time.After(time.Millisecond)
			}
		})
		first := w.Concurrently(enginetest.Update, enginetest.TenantPath("/items"), bulkItems("first"))
		synctest.Wait()
		var others []chan enginetest.Answered
		for n := range joined {
			others = append(others, w.Concurrently(enginetest.Update, enginetest.TenantPath("/items"), bulkItems(fmt.Sprint(n))))
			synctest.Wait()
		}
		allWritten(t, <-first)
		before := len(w.Storage.Log())
		for _, o := range others {
			allWritten(t, <-o)
		}
		w.Storage.Hook(nil)
		for _, op := range w.Storage.Log()[before:] {
			if strings.HasPrefix(op, "put pages/") {
				puts++
			}
		}
		require.LessOrEqual(t, puts, 2*pages*3/2, "twice, of %d pages, some of which split", pages)
		for _, own := range []string{"before", "first", "0", "7", "8", "9"} {
			require.Equal(t, own, w.Value("own/"+own))
		}
		require.Equal(t, fmt.Sprint(joined-1), w.Value("shared/1"), "in the order in which they came")
	})
}

// A bulk write that has joined others is made though the request of the one that leads them
// has ended, which is not made: nobody waits for it.
func TestBulkWritesOutlastARequestThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.SmallTenant(t)
		defer func() { w.Close() }()
		w.Must(enginetest.Update, enginetest.TenantPath("/items"), bulkItems("before"))
		reached, goOn := w.StopBefore("put")
		first := w.Concurrently(enginetest.Update, enginetest.TenantPath("/items"), bulkItems("first"))
		<-reached
		ctx, cancel := context.WithCancel(t.Context())
		leads := make(chan enginetest.Answered)
		go func() {
			resp, err := w.Engine.HandleRequest(ctx, &logical.Request{
				ID: w.RequestID(), Operation: enginetest.Update, Path: enginetest.TenantPath("/items"), Storage: w.Storage,
				Data: bulkItems("leads"),
			})
			leads <- enginetest.Answered{Resp: resp, Err: err}
		}()
		synctest.Wait()
		follows := w.Concurrently(enginetest.Update, enginetest.TenantPath("/items"), bulkItems("follows"))
		synctest.Wait()
		cancel()
		var dropped atomic.Bool
		w.Storage.Hook(func(op, key string) { // the last page of the first
			if op == "put" && strings.HasPrefix(key, "pages/") && dropped.CompareAndSwap(false, true) {
				w.DropPages() // so that the others list them, for which a request must not have ended
			}
		})
		goOn()
		allWritten(t, <-first)
		require.ErrorIs(t, (<-leads).Err, context.Canceled)
		allWritten(t, <-follows)
		w.Storage.Hook(nil)
		_, err := w.Call(enginetest.Read, enginetest.ItemPath("own/leads"), nil)
		require.Error(t, err)
		require.Equal(t, "follows", w.Value("shared/1"))
	})
}
