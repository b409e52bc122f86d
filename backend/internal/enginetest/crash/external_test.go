// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// externalScenarios are those of what leaves the engine.
var externalScenarios = []scenario{
	{
		name:   "encrypt for the first time",
		before: (*enginetest.Oracle).Create,
		act: func(w *enginetest.Oracle) {
			w.Encrypt("one")
			w.Encrypt("two")
			w.Rewrap()
		},
	},
	{
		name: "encrypt for the first time while rotating",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(20, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.MidSweep(func() {
				w.Encrypt("one")
				w.Put("bulk/1", "beside it")
				w.Encrypt("two")
			})
			enginetest.Advance(time.Second)
			w.Encrypt("three")
		},
	},
	{
		name: "encrypt, rotate, and encrypt again",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(10, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Encrypt("old")
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Encrypt("new")
			w.Rewrap()
			w.Rotate()
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "cancel after the new version has sealed",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(15, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Encrypt("under the old version")
			w.MidSweep(func() {
				w.Encrypt("under the new version")
				w.Act("cancel", "rolled_back")
				w.Encrypt("under the old version again")
			})
			enginetest.Advance(time.Second)
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Encrypt("under the third version")
		},
	},
	{
		name: "destroy a version by force",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(10, 3000)
			w.Encrypt("old")
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Encrypt("new")
		},
		act: func(w *enginetest.Oracle) {
			w.Destroy(1, false)
			w.Destroy(1, true)
			w.Destroy(2, true)
			w.Rewrap()
			w.Destroy(1, true)
		},
	},
	{
		name: "destroy a retired key before its time",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(10, 3000)
			w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "24h"})
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Encrypt("new")
			w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "0"})
		},
		act: func(w *enginetest.Oracle) {
			w.Destroy(1, false)
			w.Put("bulk/1", "afterwards")
		},
	},
	{
		name:   "data keys",
		before: (*enginetest.Oracle).Create,
		act: func(w *enginetest.Oracle) {
			w.Datakey("wrapped")
			w.Datakey("plaintext")
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Datakey("plaintext")
		},
	},
}

func TestEveryCrashPointOfExternalKeys(t *testing.T) { atEveryPoint(t, externalScenarios) }
