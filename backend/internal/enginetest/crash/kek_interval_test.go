// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// kekIntervalScenarios are those of a KEK that becomes due.
var kekIntervalScenarios = []scenario{
	{
		name: "the KEK becomes due",
		before: func(w *enginetest.Oracle) {
			w.Create()
			enginetest.OtherTenants(w)
			w.Must(enginetest.Update, "config", map[string]any{"kek_rotation_interval": "1h"})
		},
		act: func(w *enginetest.Oracle) {
			enginetest.Advance(2 * time.Hour)
			w.Tick()
			w.Put("a", "1")
		},
	},
	{
		name: "the KEK has no date",
		before: func(w *enginetest.Oracle) {
			w.Create()
			enginetest.WithoutDate(w.T, w.Disk)
		},
		act: func(w *enginetest.Oracle) {
			w.Tick()
			w.RotateKEK()
			enginetest.Advance(time.Second)
			w.Put("a", "1")
		},
	},
}

func TestEveryCrashPointOfTheKEKInterval(t *testing.T) { atEveryPoint(t, kekIntervalScenarios) }
