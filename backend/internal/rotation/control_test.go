// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestCancelRollsBack(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, id string) {
		before := w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)
		require.Equal(t, 2, before["current_version"])
		w.Put("bulk/3", "under the new key")

		require.Equal(t, "rolling_back", w.Must(enginetest.Update, enginetest.Action(id, "cancel"), nil)["status"])
		require.Equal(t, "rolling_back", w.Must(enginetest.Update, enginetest.Action(id, "cancel"), nil)["status"], "again")
		require.Equal(t, 1, w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"])
		w.Put("bulk/4", "under the old key again")
		w.Engine.Pages.Release()
		enginetest.Advance(time.Second)
		require.NoError(t, w.Engine.Pages.Acquire(context.Background()))

		st := w.Status(id)
		require.Equal(t, "rolled_back", st["status"])
		require.NotNil(t, st["completed_at"])
		versions := w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "active", versions[0]["state"])
		require.Equal(t, versions[0]["created_at"], versions[0]["activated_at"], "the old key is as old as it was")
		require.Equal(t, "destroyed", versions[1]["state"])
		require.Zero(t, versions[1]["pages"])
		for _, a := range []string{"cancel", "pause", "resume", "retry"} {
			w.Refused(409, "rolled_back", enginetest.Update, enginetest.Action(id, a), nil)
		}
		w.Ends[id] = []string{"rolled_back"}
		w.ReadsBack()
		w.AtRest()
	})
}

func TestPauseHoldsARotationAndNothingElse(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, id string) {
		require.Equal(t, "paused", w.Must(enginetest.Update, enginetest.Action(id, "pause"), nil)["status"])
		require.Equal(t, "paused", w.Must(enginetest.Update, enginetest.Action(id, "pause"), nil)["status"], "again")
		w.Engine.Pages.Release()
		enginetest.Advance(time.Hour)
		rotated := w.Status(id)["items_rotated"]
		w.Put("bulk/5", "while paused")
		w.Refused(409, id, enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)

		w.Crash()
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		enginetest.Advance(time.Hour)
		require.Equal(t, "paused", w.Status(id)["status"], "over a restart")
		w.Must(enginetest.Read, enginetest.TenantPath(""), nil) // counts, which a new engine does not know yet
		require.LessOrEqual(t, rotated.(map[string]int)["secrets"], w.Status(id)["items_rotated"].(map[string]int)["secrets"])

		w.Refused(409, "is paused", enginetest.Update, enginetest.Action(id, "retry"), nil)
		require.Equal(t, "in_progress", w.Must(enginetest.Update, enginetest.Action(id, "resume"), nil)["status"])
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", w.Status(id)["status"])
		w.Refused(409, "completed", enginetest.Update, enginetest.Action(id, "resume"), nil)
		w.Refused(409, "completed", enginetest.Update, enginetest.Action(id, "retry"), nil)
		w.ReadsBack()
		w.AtRest()
		w.Close()
	})
}

func TestActionsOnWhatIsNotThere(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, a := range []string{"pause", "resume", "cancel", "retry"} {
		m.Refused(404, "rotation not found", enginetest.Update, enginetest.Action("rot-"+enginetest.TenantID, a), nil)
		m.Refused(400, "tenant_id", enginetest.Update, "tenants/x/dek/rotations/rot-1/"+a, nil)
	}
}

func TestRetryTakesWhatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		w := enginetest.NewOracle(m)
		w.Create()
		w.Bulk(40, 3000)
		w.Damage()
		w.Rotate()
		enginetest.Advance(time.Second)
		id := w.Rotations[0]
		require.Equal(t, "failed", w.Status(id)["status"])

		require.Equal(t, "in_progress", w.Must(enginetest.Update, enginetest.Action(id, "retry"), nil)["status"])
		enginetest.Advance(time.Second)
		require.Equal(t, "failed", w.Status(id)["status"], "the page is still damaged")

		w.Damage()
		w.Must(enginetest.Update, enginetest.Action(id, "retry"), nil)
		enginetest.Advance(time.Second)
		st := w.Status(id)
		require.Equal(t, "completed", st["status"])
		require.Zero(t, st["items_failed"])
		w.ReadsBack()
		w.AtRest()
	})
}
