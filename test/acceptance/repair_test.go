// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// TestRepairAfterARestoredSnapshot destroys keys, restores a snapshot in which they are, and
// has them taken away again by an export of the evidence log from before.
func TestRepairAfterARestoredSnapshot(t *testing.T) {
	s := start(t, devstack.Options{Storage: devstack.Raft, NoProxy: true})
	dek := buildDek(t)
	rotated, gone, counted := newTenant(t, s), newTenant(t, s), newTenant(t, s)
	turn := func(tenant string, with map[string]any) {
		r := succeeded(t, callRoot(t, s, http.MethodPost, "dek/tenants/"+tenant+"/dek/rotate", with))
		waitRotation(t, s, tenant, r["rotation_id"].(string), "completed")
	}
	for _, tenant := range []string{rotated, gone, counted} {
		succeeded(t, callRoot(t, s, http.MethodPost, "dek/tenants/"+tenant+"/secrets/a", map[string]any{"data": map[string]any{"k": "v"}}))
	}
	turn(counted, map[string]any{"key_type": "aes256-gcm"})
	owned := newTenant(t, s)
	body := newTransitOwner(t, s).provider()
	body["tenants"] = []string{owned}
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/providers/owner", body))
	ownKEK := func() map[string]any {
		return succeeded(t, callRoot(t, s, http.MethodGet, "dek/tenants/"+owned+"/kek", nil))
	}
	move := func() {
		succeeded(t, callRoot(t, s, http.MethodPut, "dek/tenants/"+owned+"/kek/rotate", map[string]any{"provider": "owner"}))
		require.Eventually(t, func() bool { return ownKEK()["status"] == "completed" }, time.Minute, 50*time.Millisecond)
	}
	move()
	left := ownKEK()["kek_id"]
	response, err := s.Client().Logical().ReadRawWithContext(t.Context(), "sys/storage/raft/snapshot")
	require.NoError(t, err)
	snapshot, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())

	turn(rotated, nil)
	destroyed := callRoot(t, s, http.MethodPost, "dek/tenants/"+rotated+"/dek/versions/1/destroy", nil)
	require.Less(t, destroyed.Status, 300, destroyed.errors())
	require.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodDelete, "dek/tenants/"+gone+"?deletion_window=0", nil).Status)
	move()
	require.NotEqual(t, left, ownKEK()["kek_id"])
	kek := succeeded(t, callRoot(t, s, http.MethodPost, "dek/kek/rotate", nil))
	require.Eventually(t, func() bool {
		now := succeeded(t, callRoot(t, s, http.MethodGet, "dek/kek", nil))
		return now["status"] == "completed" && succeeded(t, callRoot(t, s, http.MethodGet, "dek/status", nil))["evidence_pending"] == float64(0)
	}, time.Minute, 50*time.Millisecond)
	vkey := succeeded(t, callRoot(t, s, http.MethodGet, "dek/evidence/key", nil))["vkey"].(string)
	dir := filepath.Join(t.TempDir(), "log")
	code, _, stderr := dek.run(s, s.RootToken(), "evidence", "export", dir)
	require.Equal(t, 0, code, stderr)
	kept := filepath.Join(dir, "checkpoint")
	checkpoint, err := os.ReadFile(kept)
	require.NoError(t, err)

	require.NoError(t, s.Client().Sys().RaftSnapshotRestore(bytes.NewReader(snapshot), false))
	require.Eventually(t, func() bool {
		return callRoot(t, s, http.MethodGet, "dek/tenants/"+gone, nil).Status == http.StatusOK
	}, time.Minute, 100*time.Millisecond, "the tenant came back")
	checked := callRoot(t, s, http.MethodPost, "dek/evidence/check", map[string]any{"checkpoint": string(checkpoint)})
	require.Equal(t, http.StatusConflict, checked.Status)
	require.Equal(t, left, ownKEK()["kek_id"], "the tenant's own key-encryption key came back")

	token := login(t, s, "", auditor, superAdmin, keyDestroyer, kekAdmin)
	repair := []string{"evidence", "verify", dir, "--vkey", vkey, "--repair", "--yes"}
	code, stdout, stderr := dek.run(s, token, repair...)
	require.Equal(t, 0, code, "%s%s", stdout, stderr)
	for _, line := range []string{
		"Storage went back", "Tenant " + rotated + ": version 1 is destroyed.", "Tenant " + gone + " is being deleted",
		"Due for a rotation: 1.", "A rotation of the key-encryption key has begun",
		"Tenant " + owned + ": the key-encryption keys that came back are destroyed.",
	} {
		assert.Contains(t, stdout, line)
	}
	now := ownKEK()
	assert.NotEqual(t, left, now["kek_id"])
	assert.Empty(t, now["older_kek_ids"])
	assert.Equal(t, "owner", now["provider"])
	versions := succeeded(t, callRoot(t, s, http.MethodGet, "dek/tenants/"+rotated+"/dek", nil))["versions"].([]any)
	assert.Equal(t, "destroyed", versions[0].(map[string]any)["state"])
	item := succeeded(t, callRoot(t, s, http.MethodGet, "dek/tenants/"+rotated+"/secrets/a", nil))
	assert.Equal(t, map[string]any{"k": "v"}, item["data"], "what is on the key is kept")
	assert.Equal(t, "deleting", succeeded(t, callRoot(t, s, http.MethodGet, "dek/tenants/"+gone, nil))["state"])
	require.Eventually(t, func() bool {
		now := succeeded(t, callRoot(t, s, http.MethodGet, "dek/kek", nil))
		return now["status"] == "completed" && now["kek_id"] != kek["previous_kek_id"]
	}, time.Minute, 50*time.Millisecond)

	code, stdout, stderr = dek.run(s, token, repair...)
	require.Equal(t, 0, code, "again: %s%s", stdout, stderr)
	assert.NotContains(t, stdout, "is destroyed.")
	code, stdout, _ = dek.run(s, token, "evidence", "verify", "--vkey", vkey)
	assert.Equal(t, 0, code, "all of that is evidence: %s", stdout)
	code, stdout, _ = dek.run(s, token, "evidence", "verify", "--vkey", vkey, "--checkpoint", kept)
	assert.Equal(t, 1, code, "it stays noticed: %s", stdout)
}
