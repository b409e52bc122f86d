// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// firstImport reads the wrapping key, and imports under it.
func firstImport(w *enginetest.Oracle, fill byte) {
	w.T.Helper()
	w.Do(enginetest.Read, "wrapping_key", nil, func(w *enginetest.Oracle, resp *logical.Response) {
		w.ImportUnder(enginetest.ParsePublic(w.T, resp.Data["public_key"].(string)), fill)
	})
}

// importScenarios are those of keys that owners bring along.
var importScenarios = []scenario{
	{
		name: "import",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(15, 3000)
			w.PublicKey()
		},
		act: func(w *enginetest.Oracle) {
			w.ImportKey(1)
			enginetest.Advance(time.Second)
			w.Put("bulk/1", "under the imported key")
			w.ImportKey(1) // refused, unless the first was
			w.ImportKey(2)
			enginetest.Advance(time.Second)
		},
		twice: true,
	},
	{
		name: "cancel an import, and import another key",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(15, 3000)
			w.PublicKey()
		},
		act: func(w *enginetest.Oracle) {
			w.MidSweepOf(func() { w.ImportKey(1) }, func() {
				w.Put("bulk/1", "under the imported key")
				w.Act("cancel", "rolled_back")
			})
			enginetest.Advance(time.Second)
			w.ImportKey(2)
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "make the wrapping key, and import under it",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(5, 3000)
		},
		act: func(w *enginetest.Oracle) {
			firstImport(w, 1)
			enginetest.Advance(time.Second)
		},
	},
}

func TestEveryCrashPointOfImport(t *testing.T) { atEveryPoint(t, importScenarios) }
