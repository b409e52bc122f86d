// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// scenario is run with a fault at every operation in turn.
type scenario struct {
	name string
	// before prepares the disk, act is where the fault strikes.
	before, act func(*witness)
	twice       bool // also with a second fault in the recovery
}

// scenarios are those of items and rotations. Their values are large, so that a
// few items fill pages and split them.
var scenarios = []scenario{
	{
		name:   "create a tenant and write",
		before: func(*witness) {},
		act: func(w *witness) {
			w.create()
			w.put("a", "1")
			w.put("a", "2")
			w.remove("a")
			w.put("b", "1")
		},
	},
	{
		name:   "write across splits",
		before: (*witness).create,
		act: func(w *witness) {
			for i := range 14 {
				w.put(fmt.Sprintf("item/%d", i), filler("split", 7000))
			}
			w.put("item/0", "small")
			w.remove("item/1")
		},
		twice: true,
	},
	{
		name:   "large items",
		before: (*witness).create,
		act: func(w *witness) {
			for i := range 3 {
				w.put(fmt.Sprintf("small/%d", i), "small")
				w.put(fmt.Sprintf("large/%d", i), filler("large", 120_000))
			}
			w.put("large/0", "small now")
		},
	},
	{
		name:   "write in bulk",
		before: (*witness).create,
		act:    func(w *witness) { w.bulk(60, 3000) },
	},
	{
		name: "write in bulk beside what is there",
		before: func(w *witness) {
			w.create()
			w.bulk(20, 3000)
		},
		act: func(w *witness) { w.bulk(90, 3000) },
	},
	{
		name: "split, and write in bulk", // which may meet what a split that broke off has left
		before: func(w *witness) {
			w.create()
			w.bulk(8, 3000)
		},
		act: func(w *witness) {
			w.put("splits", filler("splits", 20_000))
			w.bulk(60, 3000)
		},
	},
	{
		name:   "write in bulk, write, and rotate",
		before: (*witness).create,
		act: func(w *witness) {
			w.bulk(30, 3000)
			w.put("splits/1", filler("one", 30_000))
			w.put("splits/2", filler("two", 30_000))
			w.rotate()
			w.put("bulk/1", "new")
		},
	},
	{
		name: "rotate",
		before: func(w *witness) {
			w.create()
			w.bulk(40, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			advance(time.Second)
		},
		twice: true,
	},
	{
		name: "rotate, keep the old key, and cancel the next",
		before: func(w *witness) {
			w.create()
			w.bulk(20, 3000)
			w.must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "168h"})
		},
		act: func(w *witness) {
			w.rotate()
			advance(time.Second)
			w.put("bulk/1", "between")
			w.midSweep(func() { w.act("cancel", "rolled_back") })
			advance(time.Second)
			w.put("bulk/2", "afterwards")
		},
	},
	{
		name: "rotate while writing",
		before: func(w *witness) {
			w.create()
			w.bulk(20, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			for i := range 6 {
				w.put(fmt.Sprintf("bulk/%d", i), "written during the rotation")
				w.put(fmt.Sprintf("new/%d", i), filler("new", 6000))
				synctest.Wait()
			}
			w.remove("bulk/7")
			advance(time.Second)
		},
	},
	{
		name: "two rotations in a row",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			advance(time.Second)
			w.put("bulk/1", "between")
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "cancel",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.midSweep(func() {
				w.put("bulk/1", "under the new key")
				w.act("cancel", "rolled_back")
				w.put("bulk/2", "under the old key again")
			})
			advance(time.Second)
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "cancel, and let the old key be",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.midSweep(func() { w.act("cancel", "rolled_back") })
			advance(time.Second)
		},
		twice: true,
	},
	{
		name: "pause, cancel while paused, and rotate again",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
		},
		act: func(w *witness) {
			w.midSweep(func() {
				w.act("pause", "paused")
				w.put("bulk/1", "while paused")
				w.act("resume", "completed")
				w.act("pause", "paused")
				w.act("cancel", "rolled_back")
			})
			advance(time.Second)
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "write into deltas",
		before: func(w *witness) {
			w.create()
			w.bulk(8, 3000)
		},
		act: func(w *witness) {
			w.deltas()
			w.remove("bulk/3")
			w.put("bulk/2", "the page is put since, so this is its delta again")
			w.put("bulk/4", filler("large", 5000))
			w.put("bulk/5", "one more")
		},
		twice: true,
	},
	{
		name: "write into deltas, and split",
		before: func(w *witness) {
			w.create()
			w.bulk(8, 3000)
		},
		act: func(w *witness) {
			w.deltas()
			w.put("splits", filler("splits", 20_000))
			w.deltas()
			w.rotate()
			w.put("bulk/1", "beside the rotation")
			advance(time.Second)
		},
		twice: true,
	},
	{
		name: "write into deltas, and rotate twice",
		before: func(w *witness) {
			w.create()
			w.bulk(16, 3000)
			w.must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "1h"})
		},
		act: func(w *witness) {
			w.deltas()
			w.rotate()
			w.deltas()
			advance(time.Second)
			w.deltas()
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "write into deltas, rotate, and cancel",
		before: func(w *witness) {
			w.create()
			w.bulk(16, 3000)
		},
		act: func(w *witness) {
			w.deltas()
			w.midSweep(func() {
				w.deltas()
				w.act("cancel", "rolled_back")
				w.deltas()
			})
			advance(time.Second)
			w.deltas()
		},
		twice: true,
	},
	{
		name: "write into deltas, and shred",
		before: func(w *witness) {
			w.create()
			w.bulk(8, 3000)
		},
		act: func(w *witness) {
			w.deltas()
			w.deleteTenant("0")
			w.create()
			w.put("bulk/1", "of the new tenant")
			advance(time.Second)
		},
	},
	{
		name: "delete and restore",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			w.deleteTenant("24h")
			advance(time.Second)
			w.restore()
			w.put("bulk/1", "after it was restored")
		},
	},
	{
		name: "shred, and create again",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
		},
		act: func(w *witness) {
			w.rotate()
			w.deleteTenant("0")
			w.create()
			w.put("bulk/1", "of the new tenant")
			w.rotate()
			advance(time.Second)
		},
	},
	{
		name: "keep a retired key, and rotate by schedule",
		before: func(w *witness) {
			w.create()
			w.bulk(15, 3000)
			w.must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "1h", "scheduler_jitter": 0})
			w.must(logical.UpdateOperation, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
			w.rotate()
		},
		act: func(w *witness) {
			advance(2 * time.Hour)
			w.tick()
			advance(91 * 24 * time.Hour)
			w.tick()
			w.put("bulk/1", "after the schedule has rotated")
		},
	},
	{
		name: "retry",
		before: func(w *witness) {
			w.create()
			w.bulk(25, 3000)
			w.damage()
			w.rotate()
			w.ends[w.rotations[0]] = []string{"failed"}
		},
		act: func(w *witness) {
			w.damage()
			w.act("retry", "completed")
			advance(time.Second)
		},
	},
}
