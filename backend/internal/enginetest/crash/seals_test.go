// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// countedScenarios are those of keys whose seals are counted.
var countedScenarios = []scenario{
	{
		name:   "write and encrypt, counted",
		before: func(*enginetest.Oracle) {},
		act: func(w *enginetest.Oracle) {
			w.CreateAES()
			for _, v := range []string{"1", "2", "3", "4", "5"} {
				w.Put("a", v)
				w.Encrypt(v)
			}
			w.Rewrap()
		},
		twice: true,
	},
	{
		name: "rotate, counted",
		before: func(w *enginetest.Oracle) {
			w.CreateAES()
			w.Bulk(40, 3000)
			w.Encrypt("before")
		},
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Put("bulk/1", "afterwards")
			w.Encrypt("afterwards")
		},
	},
	{
		name: "cancel and destroy, counted",
		before: func(w *enginetest.Oracle) {
			w.CreateAES()
			w.Bulk(25, 3000)
			w.Encrypt("before")
			w.Encrypt("and again, beyond what a key has from the beginning")
		},
		act: func(w *enginetest.Oracle) {
			w.MidSweep(func() {
				w.Put("bulk/1", "under the new key")
				w.Encrypt("under the new key")
				w.Act("cancel", "rolled_back")
			})
			enginetest.Advance(time.Second)
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Destroy(1, true)
			w.Destroy(2, true)
		},
	},
	{
		name: "shred, counted",
		before: func(w *enginetest.Oracle) {
			w.CreateAES()
			w.Bulk(15, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Put("bulk/1", "once more")
			w.Rotate()
			w.DeleteTenant("0")
			w.CreateAES()
			w.Put("bulk/1", "of the new tenant")
			w.Put("bulk/1", "again")
		},
	},
}

func TestEveryCrashPointCounted(t *testing.T) { atEveryPoint(t, countedScenarios) }
