// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const crashItems = 20_000

// TestCrashDuringRotation kills the plugin, and then Vault with it, in the
// middle of a rotation, with writers and readers at work. The rotation ends by
// itself, nothing that was acknowledged is lost, and all counts are exact.
func TestCrashDuringRotation(t *testing.T) {
	for _, c := range []struct {
		name  string
		crash func(t *testing.T, s *devstack.Stack)
	}{
		{"the plugin", func(t *testing.T, s *devstack.Stack) { require.NoError(t, s.KillPlugin()) }},
		{"Vault", func(t *testing.T, s *devstack.Stack) {
			s.KillVault()
			require.NoError(t, s.RestartVault(t.Context()))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, devstack.Options{Storage: devstack.Raft, NoProxy: true})
			tr := newTraffic(t, s, crashItems)
			a := callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"rotation_parallelism": 1, "retired_key_retention": 0})
			require.Less(t, a.Status, 300, a.errors())
			stop := tr.run(t, 3, 2, 500)

			ended := tr.crashDuringRotation(t, c.crash)
			assert.Equal(t, ended["items_to_rotate"], ended["items_rotated"])
			assert.Equal(t, []any{0.0, 100.0}, []any{ended["items_failed"], ended["percent"]})
			stop()
			t.Logf("%d requests during the rotation", tr.requests.Load())
			tr.settle(t)
		})
	}
}

// crashDuringRotation starts a rotation, crashes what crash does while a part
// of the pages is rotated, and returns the rotation when it has ended. It does
// so again if the rotation was over before the crash.
func (tr *traffic) crashDuringRotation(t *testing.T, crash func(*testing.T, *devstack.Stack)) map[string]any {
	t.Helper()
	for range 5 {
		id := rotate(t, tr.s, tr.tenant)
		path := tenantPath(tr.tenant, "dek/rotations", id)
		require.Eventually(t, func() bool {
			return rotatedSecrets(callRoot(t, tr.s, http.MethodGet, path, nil).data()) > crashItems/20
		}, rotationLimit, time.Millisecond)

		tr.quiesced.Add(1)
		at := time.Now()
		crash(t, tr.s)
		require.Eventually(t, func() bool {
			return callRoot(t, tr.s, http.MethodGet, path, nil).Status == http.StatusOK
		}, goneLimit, rotationTick)
		tr.quiesced.Add(1)
		waitRotation(t, tr.s, tr.tenant, id, "completed")
		ended := succeeded(t, callRoot(t, tr.s, http.MethodGet, path, nil))
		if parsedTime(t, ended["completed_at"]).After(at) {
			return ended
		}
	}
	require.Fail(t, "each rotation was over before the crash")
	return nil
}

func rotatedSecrets(rotation map[string]any) float64 {
	by, _ := rotation["items_rotated"].(map[string]any)
	n, _ := by["secrets"].(float64)
	return n
}
