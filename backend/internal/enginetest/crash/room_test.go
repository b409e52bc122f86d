// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"testing/cryptotest"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// TestEveryCrashPointOfAFullRecord is TestEveryCrashPoint for the writes of a start that
// has to make room. Each write meets one fault, in turn, since with a thousand entries of
// evidence a run takes seconds; another CRASH_SEED takes others.
func TestEveryCrashPointOfAFullRecord(t *testing.T) {
	seed := enginetest.SeedOf(t)
	enginetest.InOrder(t)
	cryptotest.SetGlobalRandom(t, seed)
	before := func(w *enginetest.Oracle) {
		w.Create()
		w.Put("a", "1")
		w.Must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": "168h", "manual_rotations_per_hour": 0})
		for range keyring.MaxVersions - 1 {
			w.Must(logical.UpdateOperation, enginetest.TenantPath("/dek/rotate"), nil)
			synctest.Wait()
		}
		require.Len(w.T, w.Record().Keys.Versions, keyring.MaxVersions)
	}
	prepared, ops := rehearse(t, before, (*enginetest.Oracle).Rotate)
	var points []point
	for n, op := range ops {
		if faults := faultsOf(op); len(faults) == len(faultsOf("put ")) { // it is a write
			fault := faults[(len(points)+int(seed%4))%len(faults)] // #nosec G115 -- small
			points = append(points, point{first: crash{n + 1, fault}})
		}
	}
	for _, p := range sample(points) {
		ok := t.Run(p.String(), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed+fresh)
			synctest.Test(t, func(t *testing.T) { crashAt(t, prepared, (*enginetest.Oracle).Rotate, p) })
		})
		if !ok {
			t.FailNow()
		}
	}
	t.Logf("%d crash points of a full record", len(points))
}
