// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// An operation that comes late goes on although it holds a lock that another waits for, so
// that no time passes.
func TestOperationThatComesLateGoesOn(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		s := newScheduler(1)
		s.begin(faults{})
		var lock sync.Mutex
		var both sync.WaitGroup
		lock.Lock()
		both.Go(func() {
			for range 1000 { // until step waits
				runtime.Gosched()
			}
			s.wait(storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), "get", "a")
			lock.Unlock()
		})
		both.Go(func() {
			lock.Lock()
			defer lock.Unlock()
		})
		for range 2 {
			s.step()
		}
		both.Wait()
	})
}
