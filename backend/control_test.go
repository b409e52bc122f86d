// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// inRotation runs f while a rotation of a tenant with several pages is in its
// sweep, and returns a witness of what was written.
func inRotation(t *testing.T, f func(w *witness, rotation string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		slowly(m)
		w := newWitness(m)
		w.create()
		w.bulk(40, 3000)
		w.midSweep(func() { f(w, w.rotations[0]) })
		w.b.Cleanup(context.Background())
	})
}

func action(rotation, name string) string {
	return tenantPath("/dek/rotations/" + rotation + "/" + name)
}

func TestCancelRollsBack(t *testing.T) {
	inRotation(t, func(w *witness, id string) {
		before := w.must(read, tenantPath("/dek"), nil)
		require.Equal(t, 2, before["current_version"])
		w.put("bulk/3", "under the new key")

		require.Equal(t, "rolling_back", w.must(update, action(id, "cancel"), nil)["status"])
		require.Equal(t, "rolling_back", w.must(update, action(id, "cancel"), nil)["status"], "again")
		require.Equal(t, 1, w.must(read, tenantPath("/dek"), nil)["current_version"])
		w.put("bulk/4", "under the old key again")
		w.b.Pages.Release()
		advance(time.Second)
		require.NoError(t, w.b.Pages.Acquire(context.Background()))

		st := w.status(id)
		require.Equal(t, "rolled_back", st["status"])
		require.NotNil(t, st["completed_at"])
		versions := w.must(read, tenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "active", versions[0]["state"])
		require.Equal(t, versions[0]["created_at"], versions[0]["activated_at"], "the old key is as old as it was")
		require.Equal(t, "destroyed", versions[1]["state"])
		require.Zero(t, versions[1]["pages"])
		for _, a := range []string{"cancel", "pause", "resume", "retry"} {
			w.refused(409, "rolled_back", update, action(id, a), nil)
		}
		w.ends[id] = []string{"rolled_back"}
		w.readsBack()
		w.atRest()
	})
}

func TestPauseHoldsARotationAndNothingElse(t *testing.T) {
	inRotation(t, func(w *witness, id string) {
		require.Equal(t, "paused", w.must(update, action(id, "pause"), nil)["status"])
		require.Equal(t, "paused", w.must(update, action(id, "pause"), nil)["status"], "again")
		w.b.Pages.Release()
		advance(time.Hour)
		rotated := w.status(id)["items_rotated"]
		w.put("bulk/5", "while paused")
		w.refused(409, id, update, tenantPath("/dek/rotate"), nil)

		w.crash()
		w = w.on(openMount(t, w.disk, 0, storagetest.None))
		advance(time.Hour)
		require.Equal(t, "paused", w.status(id)["status"], "over a restart")
		w.must(read, tenantPath(""), nil) // counts, which a new engine does not know yet
		require.LessOrEqual(t, rotated.(map[string]int)["secrets"], w.status(id)["items_rotated"].(map[string]int)["secrets"])

		require.Equal(t, "in_progress", w.must(update, action(id, "resume"), nil)["status"])
		advance(time.Second)
		require.Equal(t, "completed", w.status(id)["status"])
		w.refused(409, "completed", update, action(id, "resume"), nil)
		w.refused(409, "completed", update, action(id, "retry"), nil)
		w.readsBack()
		w.atRest()
		w.close()
	})
}

func TestActionsOnWhatIsNotThere(t *testing.T) {
	m := withTenant(t)
	for _, a := range []string{"pause", "resume", "cancel", "retry"} {
		m.refused(404, "rotation not found", update, action("rot-"+testTenant, a), nil)
		m.refused(400, "tenant_id", update, "tenants/x/dek/rotations/rot-1/"+a, nil)
	}
}

func TestRetryTakesWhatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		w := newWitness(m)
		w.create()
		w.bulk(40, 3000)
		w.damage()
		w.rotate()
		advance(time.Second)
		id := w.rotations[0]
		require.Equal(t, "failed", w.status(id)["status"])

		require.Equal(t, "in_progress", w.must(update, action(id, "retry"), nil)["status"])
		advance(time.Second)
		require.Equal(t, "failed", w.status(id)["status"], "the page is still damaged")

		w.damage()
		w.must(update, action(id, "retry"), nil)
		advance(time.Second)
		st := w.status(id)
		require.Equal(t, "completed", st["status"])
		require.Zero(t, st["items_failed"])
		w.readsBack()
		w.atRest()
	})
}
