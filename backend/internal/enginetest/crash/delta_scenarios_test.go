// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

var deltaScenarios = []scenario{
	{
		name: "write into deltas",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(8, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Deltas()
			w.Remove("bulk/3")
			w.Put("bulk/2", "the page is put since, so this is its delta again")
			w.Put("bulk/4", enginetest.Filler("large", 5000))
			w.Put("bulk/5", "one more")
		},
		twice: true,
	},
	{
		name: "write into deltas, and split",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(8, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Deltas()
			w.Put("splits", enginetest.Filler("splits", 20_000))
			w.Deltas()
			w.Rotate()
			w.Put("bulk/1", "beside the rotation")
			enginetest.Advance(time.Second)
		},
		twice: true,
	},
	{
		name: "write small items beside a large one, rotate, and split",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Put("large", enginetest.Filler("large", 100_000))
		},
		act: func(w *enginetest.Oracle) {
			w.Put("large", enginetest.Filler("large", 110_000)) // a new process puts the page first
			small := func(names ...string) {
				for _, name := range names {
					w.Put(name, enginetest.Filler(name, 9000))
				}
			}
			small("a", "b")
			w.Rotate()
			enginetest.Advance(time.Second)
			small("c", "a", "d", "e") // together with the last they would fill a page
			w.Remove("b")
		},
		twice: true,
	},
	{
		name: "write into deltas, and rotate twice",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(16, 3000)
			w.Must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "1h"})
		},
		act: func(w *enginetest.Oracle) {
			w.Deltas()
			w.Rotate()
			w.Deltas()
			enginetest.Advance(time.Second)
			w.Deltas()
			w.Rotate()
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "write into deltas, rotate, and cancel",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(16, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Deltas()
			w.MidSweep(func() {
				w.Deltas()
				w.Act("cancel", "rolled_back")
				w.Deltas()
			})
			enginetest.Advance(time.Second)
			w.Deltas()
		},
		twice: true,
	},
	{
		name: "write into deltas, and shred",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(8, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Deltas()
			w.DeleteTenant("0")
			w.Create()
			w.Put("bulk/1", "of the new tenant")
			enginetest.Advance(time.Second)
		},
	},
}
