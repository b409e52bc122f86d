// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage

import (
	"context"
	"sync"
	"sync/atomic"
)

// readsInFlight bounds the entries that one caller of [Each] has read at once.
const readsInFlight = 16

// Each calls f with 0 to n-1, for callers that read an entry for each: one after the other,
// every read would wait for the answer to the one before. Calls begin in this order, some
// at once, and an error ends no other. It returns when all calls have, with the error of
// the lowest number. Once ctx has ended no call begins, and it returns the error of ctx.
func Each(ctx context.Context, n int, f func(i int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; int(i) < n && ctx.Err() == nil; i = next.Add(1) - 1 {
			errs[i] = f(int(i))
		}
	}
	var others sync.WaitGroup
	for range min(readsInFlight, n) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
