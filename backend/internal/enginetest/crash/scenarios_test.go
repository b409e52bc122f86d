// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// scenario is run with a fault at every operation in turn.
type scenario struct {
	name string
	// before prepares the disk, act is where the fault strikes.
	before, act func(*enginetest.Oracle)
	twice       bool // also with a second fault in the recovery
}

// scenarios are those of items and rotations. Their values are large, so that a
// few items fill pages and split them.
var scenarios = slices.Concat(itemScenarios, rotationScenarios, deltaScenarios, tenantScenarios, sharedScenarios)

var itemScenarios = []scenario{
	{
		name:   "create a tenant and write",
		before: func(*enginetest.Oracle) {},
		act: func(w *enginetest.Oracle) {
			w.Create()
			w.Put("a", "1")
			w.Put("a", "2")
			w.Remove("a")
			w.Put("b", "1")
		},
	},
	{
		name:   "write across splits",
		before: (*enginetest.Oracle).Create,
		act: func(w *enginetest.Oracle) {
			for i := range 14 {
				w.Put(fmt.Sprintf("item/%d", i), enginetest.Filler("split", 7000))
			}
			w.Put("item/0", "small")
			w.Remove("item/1")
		},
		twice: true,
	},
	{
		name:   "large items",
		before: (*enginetest.Oracle).Create,
		act: func(w *enginetest.Oracle) {
			for i := range 3 {
				w.Put(fmt.Sprintf("small/%d", i), "small")
				w.Put(fmt.Sprintf("large/%d", i), enginetest.Filler("large", 120_000))
			}
			w.Put("large/0", "small now")
		},
	},
	{
		name:   "write in bulk",
		before: (*enginetest.Oracle).Create,
		act:    func(w *enginetest.Oracle) { w.Bulk(60, 3000) },
	},
	{
		name: "write in bulk beside what is there",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(20, 3000)
		},
		act: func(w *enginetest.Oracle) { w.Bulk(90, 3000) },
	},
	{
		name: "split, and write in bulk", // which may meet what a split that broke off has left
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(8, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Put("splits", enginetest.Filler("splits", 20_000))
			w.Bulk(60, 3000)
		},
	},
	{
		name:   "write in bulk, write, and rotate",
		before: (*enginetest.Oracle).Create,
		act: func(w *enginetest.Oracle) {
			w.Bulk(30, 3000)
			w.Put("splits/1", enginetest.Filler("one", 30_000))
			w.Put("splits/2", enginetest.Filler("two", 30_000))
			w.Rotate()
			w.Put("bulk/1", "new")
		},
	},
}
