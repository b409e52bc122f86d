// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// held is a tenant with a text of version 1, which was rotated away longer ago than any
// data key lives, and with a holder that is followed.
func held(w *enginetest.Oracle) {
	w.Create()
	w.Encrypt("old")
	w.Hold("table")
	w.Follow(true)
	w.Rotate()
	enginetest.Advance(2 * time.Hour)
	w.Encrypt("new")
}

// reportHeld lets the table report that it holds a version. Once that is acknowledged, what
// was sealed under the version and later ones opens.
func reportHeld(w *enginetest.Oracle, oldest int) {
	w.Do(enginetest.Update, enginetest.HolderPath("table")+"/report", map[string]any{"oldest_version": oldest},
		func(w *enginetest.Oracle, _ *logical.Response) {
			for version := range w.External.Forced {
				if version >= oldest {
					delete(w.External.Forced, version)
				}
			}
		})
}

// holderScenarios are those in which external keys go as holders report.
var holderScenarios = []scenario{
	{
		name:   "an external key goes at once",
		before: held,
		act: func(w *enginetest.Oracle) {
			w.ReportGone("table", 2)
			enginetest.Advance(time.Second)
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Rewrap()
		},
	},
	{
		name: "an external key goes after its retention",
		before: func(w *enginetest.Oracle) {
			held(w)
			w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "24h"})
		},
		act: func(w *enginetest.Oracle) {
			w.ReportGone("table", 2)
			w.Rewrap() // for another retention
			enginetest.Advance(enginetest.Day)
			w.Tick()
			w.Hold("bucket") // named late
			w.ReportGone("bucket", 2)
			w.Rotate()
			enginetest.Advance(2 * enginetest.Day)
			w.Tick()
		},
	},
	{
		name: "a report is taken back",
		before: func(w *enginetest.Oracle) {
			held(w)
			w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "24h"})
			w.ReportGone("table", 2)
			enginetest.Advance(time.Hour)
		},
		act: func(w *enginetest.Oracle) {
			reportHeld(w, 1)
			enginetest.Advance(2 * enginetest.Day)
			w.Tick()
			w.Rewrap()
		},
	},
}

func TestEveryCrashPointOfHolders(t *testing.T) { atEveryPoint(t, holderScenarios) }
