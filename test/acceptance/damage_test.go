// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// victim is a tenant one of whose entries is damaged.
type victim struct {
	s           *devstack.Stack
	id          string
	incarnation string
	keyID       string // of the page key in use
	rotation    string // is paused, if it was begun
}

// newVictim creates a tenant with items, one rotation behind it, and a ciphertext.
func newVictim(t *testing.T, s *devstack.Stack, base string) *victim {
	t.Helper()
	v := &victim{s: s, id: newTenant(t, s)}
	for i := range 3 {
		put(t, s, tenantPath(v.id, "secrets", fmt.Sprintf("item/%d", i)), map[string]any{"data": map[string]any{"v": text(20_000)}})
	}
	succeeded(t, v.call(t, http.MethodPut, "encrypt", map[string]any{"plaintext": "eHh4"}))
	waitRotation(t, s, v.id, rotate(t, s, v.id), "completed")
	sum := sha256.Sum256([]byte(v.id))
	record, _ := succeeded(t, callRoot(t, s, http.MethodGet, fmt.Sprintf("sys/raw/%stenants/%x/%s", base, sum[:1], v.id), nil))["value"].(string)
	var found struct{ Incarnation string }
	require.NoError(t, json.Unmarshal([]byte(record), &found))
	v.incarnation = found.Incarnation
	v.keyID, _ = succeeded(t, v.call(t, http.MethodGet, "dek", nil))["current_key_id"].(string)
	return v
}

func (v *victim) call(t *testing.T, method, path string, body any) answer {
	t.Helper()
	return callRoot(t, v.s, method, tenantPath(v.id, path), body)
}

// TestDamageOnARealVault flips a bit of an entry of each family in raft's file while
// Vault is down. Everyone else is served, and what can be repaired is.
func TestDamageOnARealVault(t *testing.T) {
	s := start(t, devstack.Options{Storage: devstack.Raft, RawStorage: true, NoProxy: true})
	uuid, _ := succeeded(t, callRoot(t, s, http.MethodGet, "sys/mounts/dek", nil))["uuid"].(string)
	base := "logical/" + uuid + "/"
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"min_deletion_window": 0, "scheduler_jitter": 0, "rotation_parallelism": 1}))
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/key/rotationSettings", map[string]any{"rotation_interval": "180_DAYS"}))

	victims := map[string]*victim{}
	for _, name := range []string{"page", "gone", "key", "record", "wal", "history", "whole"} {
		victims[name] = newVictim(t, s, base)
	}
	page, gone, key, record, wal, history, whole := victims["page"], victims["gone"], victims["key"], victims["record"],
		victims["wal"], victims["history"], victims["whole"]
	wal.rotation = beginPaused(t, wal)
	waitRotation(t, s, history.id, rotate(t, s, history.id), "completed") // files the one before
	// An intent is deleted after its rotation is shown as completed. One that is damaged
	// before that is kept, since nothing tells whose it was.
	waitIntents(t, s, base, 1)
	firstPage := ""
	damage(t, s, 5, func(k string) bool {
		k, below := strings.CutPrefix(k, base)
		if below && firstPage == "" && strings.HasPrefix(k, "pages/"+page.incarnation+"/p") {
			firstPage = k
		}
		return below && (k == firstPage || strings.HasPrefix(k, "wal/") ||
			strings.HasPrefix(k, "pages/"+gone.incarnation+"/") || k == "keys/"+gone.incarnation+"/"+gone.keyID ||
			k == "keys/"+key.incarnation+"/"+key.keyID || strings.HasPrefix(k, "history/"+history.incarnation+"/") ||
			strings.HasPrefix(k, "tenants/") && strings.HasSuffix(k, record.id))
	})

	t.Run("everyone else", func(t *testing.T) {
		put(t, s, tenantPath(whole.id, "secrets", "new"), map[string]any{"data": map[string]any{"v": "w"}})
		waitRotation(t, s, whole.id, rotate(t, s, whole.id), "completed")
		succeeded(t, callRoot(t, s, http.MethodGet, "dek/status", nil))
		callRoot(t, s, "LIST", "dek/rotations", nil)
	})
	t.Run("page", func(t *testing.T) {
		refused(t, page.call(t, "LIST", "secrets", nil), http.StatusInternalServerError, "page does not open")
		id := rotate(t, s, page.id)
		ended := waitRotation(t, s, page.id, id, "failed")
		assert.NotEqual(t, "0", fmt.Sprint(ended["items_failed"]))
		assert.Len(t, ended["failures"], 1)
		succeeded(t, page.call(t, http.MethodPut, "dek/versions/2/destroy", map[string]any{"force": true}))
		succeeded(t, page.call(t, http.MethodPut, "dek/rotations/"+id+"/retry", nil))
		ended = waitRotation(t, s, page.id, id, "completed")
		assert.Contains(t, fmt.Sprint(ended["failures"]), "lost")
		put(t, s, tenantPath(page.id, "secrets", "item/0"), map[string]any{"data": map[string]any{"v": "anew"}})
		succeeded(t, page.call(t, "LIST", "secrets", nil))
	})
	t.Run("deletion at once", func(t *testing.T) {
		a := callRoot(t, s, http.MethodDelete, tenantPath(gone.id)+"?deletion_window=0", nil)
		require.Equal(t, http.StatusNoContent, a.Status, a.errors())
		assert.Empty(t, callRoot(t, s, "LIST", "sys/raw/"+base+"keys/"+gone.incarnation, nil).data()["keys"])
		require.Equal(t, http.StatusNotFound, callRoot(t, s, http.MethodGet, tenantPath(gone.id), nil).Status)
	})
	t.Run("key", func(t *testing.T) {
		ended := waitRotation(t, s, key.id, rotate(t, s, key.id), "failed")
		assert.NotEmpty(t, ended["failures"])
		item := map[string]any{"data": map[string]any{"v": "under the new key"}}
		refused(t, key.call(t, http.MethodPut, "secrets/item/0", item), http.StatusInternalServerError, "does not open")
		succeeded(t, key.call(t, http.MethodPut, "dek/versions/2/destroy", map[string]any{"force": true}))
		put(t, s, tenantPath(key.id, "secrets", "item/0"), item)
		waitRotation(t, s, key.id, rotate(t, s, key.id), "completed")
	})
	t.Run("record", func(t *testing.T) {
		refused(t, record.call(t, http.MethodGet, "dek", nil), http.StatusInternalServerError, record.id, "damaged")
		refused(t, callRoot(t, s, http.MethodDelete, tenantPath(record.id), nil), http.StatusConflict, "only its record tells")
		blocked, _ := succeeded(t, callRoot(t, s, http.MethodGet, "dek/status", nil))["blocked_tenants"].(map[string]any)
		assert.Contains(t, blocked, record.id)
	})
	t.Run("write-ahead log", func(t *testing.T) {
		succeeded(t, wal.call(t, http.MethodPut, "dek/rotations/"+wal.rotation+"/resume", nil))
		waitRotation(t, s, wal.id, wal.rotation, "completed")
		waitIntents(t, s, base, 0)
	})
	t.Run("history", func(t *testing.T) {
		waitRotation(t, s, history.id, rotate(t, s, history.id), "completed")
	})
	t.Run("KEK", func(t *testing.T) {
		succeeded(t, callRoot(t, s, http.MethodPut, "dek/kek/rotate", nil))
		require.Eventually(t, func() bool {
			return succeeded(t, callRoot(t, s, http.MethodGet, "dek/kek", nil))["status"] == "failed"
		}, rotationLimit, rotationTick)
	})
	damage(t, s, 2, func(k string) bool { return k == base+"config" || k == base+"settings" })
	t.Run("configuration", func(t *testing.T) {
		refused(t, callRoot(t, s, http.MethodGet, "dek/config", nil), http.StatusInternalServerError, "config: damaged")
		a := callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"scheduler_jitter": 0})
		require.Equal(t, http.StatusOK, a.Status, a.errors())
		assert.NotEmpty(t, a.Body["warnings"])
		succeeded(t, callRoot(t, s, http.MethodGet, "dek/config", nil))
	})
	t.Run("rotation settings", func(t *testing.T) {
		refused(t, callRoot(t, s, http.MethodGet, "dek/key/rotationSettings", nil), http.StatusInternalServerError, "settings: damaged")
		a := callRoot(t, s, http.MethodPut, "dek/key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		require.Equal(t, http.StatusOK, a.Status, a.errors())
		assert.NotEmpty(t, a.Body["warnings"])
		assert.Equal(t, "90_DAYS", succeeded(t, callRoot(t, s, http.MethodGet, "dek/key/rotationSettings", nil))["rotation_interval"])
	})
}

// beginPaused leaves a rotation paused, so that its intent is in the write-ahead log.
func beginPaused(t *testing.T, v *victim) (id string) {
	t.Helper()
	for range 50 {
		id = rotate(t, v.s, v.id)
		if v.call(t, http.MethodPut, "dek/rotations/"+id+"/pause", nil).Status == http.StatusOK {
			return id
		}
		waitRotation(t, v.s, v.id, id, "completed")
	}
	require.Fail(t, "each rotation had ended before it could be paused")
	return ""
}

// waitIntents waits until the write-ahead log has so many entries.
func waitIntents(t *testing.T, s *devstack.Stack, base string, count int) {
	t.Helper()
	require.Eventually(t, func() bool {
		keys, _ := callRoot(t, s, "LIST", "sys/raw/"+base+"wal", nil).data()["keys"].([]any)
		return len(keys) == count
	}, rotationLimit, rotationTick)
}

// damage flips a bit of the entries that match, of so many kinds, while Vault is down.
func damage(t *testing.T, s *devstack.Stack, kinds int, match func(key string) bool) {
	t.Helper()
	s.KillVault()
	found := map[string]bool{}
	for key := range flipBits(t, s, match) {
		found[strings.Split(key, "/")[2]] = true // behind logical/<uuid>/
	}
	require.Len(t, found, kinds, "kinds of entries: %v", found)
	require.NoError(t, s.RestartVault(t.Context()))
}
