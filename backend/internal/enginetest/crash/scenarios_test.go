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

// scenario is run with a fault at every operation in turn.
type scenario struct {
	name string
	// before prepares the disk, act is where the fault strikes.
	before, act func(*enginetest.Oracle)
	twice       bool // also with a second fault in the recovery
}

// scenarios are those of items and rotations. Their values are large, so that a
// few items fill pages and split them.
var scenarios = []scenario{
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
	{
		name: "delete and restore",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(15, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			w.DeleteTenant("24h")
			enginetest.Advance(time.Second)
			w.Restore()
			w.Put("bulk/1", "after it was restored")
		},
	},
	{
		name: "shred, and create again",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(15, 3000)
		},
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			w.DeleteTenant("0")
			w.Create()
			w.Put("bulk/1", "of the new tenant")
			w.Rotate()
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "keep a retired key, and rotate by schedule",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(15, 3000)
			w.Must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "1h", "scheduler_jitter": 0})
			w.Must(logical.UpdateOperation, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
			w.Rotate()
		},
		act: func(w *enginetest.Oracle) {
			enginetest.Advance(2 * time.Hour)
			w.Tick()
			enginetest.Advance(91 * 24 * time.Hour)
			w.Tick()
			w.Put("bulk/1", "after the schedule has rotated")
		},
	},
	{
		name: "retry",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(25, 3000)
			w.Damage()
			w.Rotate()
			w.Ends[w.Rotations[0]] = []string{"failed"}
		},
		act: func(w *enginetest.Oracle) {
			w.Damage()
			w.Act("retry", "completed")
			enginetest.Advance(time.Second)
		},
	},
}
