// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"fmt"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

var rotationScenarios = []scenario{
	{
		name: "rotate",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(40, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			enginetest.Advance(time.Second)
		},
		twice: true,
	},
	{
		name: "rotate, keep the old key, and cancel the next",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(20, 3000)
			w.Must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "168h"})
		},
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Put("bulk/1", "between")
			w.MidSweep(func() { w.Act("cancel", "rolled_back") })
			enginetest.Advance(time.Second)
			w.Put("bulk/2", "afterwards")
		},
	},
	{
		name: "rotate while writing",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(20, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			for i := range 6 {
				w.Put(fmt.Sprintf("bulk/%d", i), "written during the rotation")
				w.Put(fmt.Sprintf("new/%d", i), enginetest.Filler("new", 6000))
				synctest.Wait()
			}
			w.Remove("bulk/7")
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "two rotations in a row",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(25, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			enginetest.Advance(time.Second)
			w.Put("bulk/1", "between")
			w.Rotate()
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "cancel",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(25, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.MidSweep(func() {
				w.Put("bulk/1", "under the new key")
				w.Act("cancel", "rolled_back")
				w.Put("bulk/2", "under the old key again")
			})
			enginetest.Advance(time.Second)
			w.Rotate()
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "cancel, and let the old key be",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(25, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.MidSweep(func() { w.Act("cancel", "rolled_back") })
			enginetest.Advance(time.Second)
		},
		twice: true,
	},
	{
		name: "pause, cancel while paused, and rotate again",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(25, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.MidSweep(func() {
				w.Act("pause", "paused")
				w.Put("bulk/1", "while paused")
				w.Act("resume", "completed")
				w.Act("pause", "paused")
				w.Act("cancel", "rolled_back")
			})
			enginetest.Advance(time.Second)
			w.Rotate()
			enginetest.Advance(time.Second)
		},
	},
}
