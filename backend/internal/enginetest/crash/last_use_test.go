// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// lastUseScenarios are those in which the tick writes what requests have noted.
var lastUseScenarios = []scenario{
	{
		name: "use external keys, note it, and destroy one",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Encrypt("old")
			w.Rotate()
			enginetest.Advance(time.Second)
		},
		act: func(w *enginetest.Oracle) {
			w.Encrypt("new")
			w.Tick()
			enginetest.Advance(enginetest.Day)
			w.Rewrap()
			w.Tick()
			w.Destroy(1, true)
			enginetest.Advance(enginetest.Day)
			w.Encrypt("another day")
			w.Tick()
		},
	},
	{
		name: "use external keys, and shred",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Encrypt("old")
			w.Tick()
			enginetest.Advance(enginetest.Day)
		},
		act: func(w *enginetest.Oracle) {
			w.Encrypt("new")
			w.External.Sealed = nil
			w.DeleteTenant("0")
			w.Tick()
			w.Create()
			w.Tick()
		},
	},
}

func TestEveryCrashPointOfLastUse(t *testing.T) { atEveryPoint(t, lastUseScenarios) }
