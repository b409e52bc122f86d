// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// settingsScenarios change what the mount's entries say, with the events that they carry.
var settingsScenarios = []scenario{
	{
		name:   "change settings",
		before: (*enginetest.Oracle).Create,
		act: func(w *enginetest.Oracle) {
			w.Configure("retired_key_retention", 3600)
			w.SetInterval("90_DAYS")
			enginetest.Advance(time.Second)
			w.Configure("retired_key_retention", 7200)
			w.SetInterval("120_DAYS")
			w.Put("a", "1")
		},
		twice: true,
	},
	{
		name: "change settings, and ask everyone to rotate",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Configure("scheduler_jitter", 60)
		},
		act: func(w *enginetest.Oracle) {
			w.SetInterval("90_DAYS")
			w.Do(logical.UpdateOperation, "rotations", map[string]any{"all": true}, func(*enginetest.Oracle, *logical.Response) {})
			enginetest.Advance(2 * time.Minute)
			w.Tick()
			w.Configure("scheduler_jitter", 0)
			enginetest.Advance(25 * time.Hour) // the entries are read again
			w.Tick()
		},
	},
}

func TestEveryCrashPointOfTheSettings(t *testing.T) { atEveryPoint(t, settingsScenarios) }
