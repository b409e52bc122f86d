// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kek_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A move from one KEK under a provider to another needs both open. After a restart and an
// outage, each is opened by a call of its own, for a lease that is short.
func TestMoveEndsAfterAnOutageWithAShortLease(t *testing.T) {
	withProvider(t, func(w *enginetest.Oracle) {
		w.Provide(map[string]any{"lease": "10s"})
		w.MoveUnderOwnKEK()
		w.Storage.Fail(enginetest.FailOn("put", "keys/", storagetest.Before))
		w.Must(enginetest.Update, enginetest.TenantPath("/kek/rotate"), nil)
		enginetest.Advance(time.Second)
		w.Crash()

		w = w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
		defer w.Close()
		w.Transit.Set(providertest.Sealed)
		w.Tick()
		enginetest.Advance(90 * time.Second)
		require.Equal(t, "in_progress", kekOf(w)["status"])
		w.Transit.Set(providertest.Works)
		enginetest.Advance(45 * time.Second) // a longest pause, and a longest refusal
		require.Equal(t, "completed", kekOf(w)["status"])
		w.ReadsBack()
	})
}
