// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestRetentionStandsStillWhileATenantIsDeleting(t *testing.T) {
	withHolders(t, []string{"a"}, func(w *followed) {
		w.gone("a")
		w.after(retention / 2)
		w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "720h"})
		w.after(4 * retention)
		w.Must(enginetest.Update, enginetest.TenantPath("/restore"), nil)
		w.after(retention/2 - 10*time.Minute)
		require.Equal(t, "deactivated", w.state())
		w.after(10 * time.Minute)
		require.Equal(t, "destroyed", w.state())
	})
}

func TestBackupsAndTheDeletionWindowKeepExternalKeys(t *testing.T) {
	withHolders(t, []string{"a", "b"}, func(w *followed) {
		w.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": "300h"})
		w.Must(enginetest.Update, enginetest.HolderPath("b"), map[string]any{"backups_kept": "20h"})
		w.gone("a")
		w.gone("b")
		w.after(time.Hour)
		w.Must(enginetest.Update, enginetest.HolderPath("b"), map[string]any{"backups_kept": "50h"})
		w.after(348 * time.Hour)
		require.Equal(t, "deactivated", w.state())
		w.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": "400h"})
		w.after(2 * time.Hour)
		require.Equal(t, "deactivated", w.state(), "raising the window holds at once")
		w.after(100 * time.Hour)
		require.Equal(t, "destroyed", w.state())
	})
}

// A minimum set by hand is not lowered, and the engine raises it to the first version that
// keeps its key.
func TestTheMinimumRisesWithTheKeys(t *testing.T) {
	withHolders(t, []string{"a"}, func(w *followed) {
		second := w.Encrypted(enginetest.TenantID, "second")
		w.Rotated(nil)
		enginetest.Advance(lease)
		w.gone("a")
		w.after(retention + time.Minute)
		require.Equal(t, "destroyed", w.state())
		require.Equal(t, 2, w.config(nil)["min_decryption_version"])
		w.OpensTo("second", second)
		w.config(map[string]any{"min_decryption_version": 3})
		w.report("a", 3, w.scan("a"))
		w.after(retention + time.Minute)
		require.Equal(t, "destroyed", w.VersionList()[1]["state"])
		require.Equal(t, 3, w.config(nil)["min_decryption_version"])
	})
}
