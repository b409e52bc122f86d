// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// tenantScenarios are of the ends of tenants, and of what ends late.
var tenantScenarios = []scenario{
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
