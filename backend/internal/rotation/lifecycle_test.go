// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A rotation that failed, whose old key was then destroyed by force, cannot be
// rolled back when it is retried.
func TestCancelNeedsTheOldKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.DamagedRotation(t)
		defer w.Close()
		w.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
		id := w.Rotations[0]
		<-w.Engine.Pages.Request()
		w.Must(enginetest.Update, enginetest.Action(id, "retry"), nil)
		w.Must(enginetest.Update, enginetest.Action(id, "pause"), nil)
		resp, err := w.Call(enginetest.Update, enginetest.Action(id, "cancel"), nil)
		require.Equal(t, 409, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "key of version 1 is gone")
		w.Engine.Pages.Release()
	})
}

// Progress goes, too, of a rotation whose end was broken off after it was stored.
func TestProgressOfARotationThatHasEndedGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 400)
		enginetest.Slowly(w.Mount)
		w.Storage.Hook(func(string, string) { <-time.After(100 * time.Millisecond) })
		w.Storage.Fail(enginetest.FailOn("delete", "progress/", storagetest.Before))
		w.Rotate()
		for w.Record().Rotation != nil {
			enginetest.Advance(time.Second)
		}
		leavesNoProgress(w)
	})
}

// Progress that a process which died has noted goes with the rotation.
func TestProgressGoesWithTheRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 400)
		enginetest.Slowly(w.Mount)
		w.Storage.Hook(func(string, string) { <-time.After(100 * time.Millisecond) })
		w.Rotate()
		for range 100 {
			enginetest.Advance(time.Second)
			if len(w.Disk.Keys("progress/")) > 0 {
				break
			}
		}
		leavesNoProgress(w)
	})
}

// leavesNoProgress lets the process die that has noted progress, and the next one
// take over.
func leavesNoProgress(w *enginetest.Oracle) {
	w.T.Helper()
	require.NotEmpty(w.T, w.Disk.Keys("progress/"))
	w.Crash()
	next := w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
	defer next.Close()
	enginetest.Advance(time.Minute)
	require.Equal(w.T, "completed", next.Status(w.Rotations[0])["status"])
	require.Empty(w.T, next.Disk.Keys("progress/"))
}
