// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// fleet is a mount of the test's own with some tenants.
func fleet(t *testing.T, s *devstack.Stack, tenants int) (mount string, ids []string) {
	t.Helper()
	mount = withMount(t, s)
	for range tenants {
		id := uuid.NewString()
		a := callRoot(t, s, http.MethodPut, mount+"/tenants/"+id, nil)
		require.Less(t, a.Status, 300, a.errors())
		ids = append(ids, id)
	}
	return mount, ids
}

func TestContractStatus(t *testing.T) {
	s := shared(t)
	mount, _ := fleet(t, s, 3)
	begun := time.Now()
	status := succeeded(t, callRoot(t, s, http.MethodGet, mount+"/status", nil))
	delete(status, "scheduler_last_run") // a time, or null until Vault's first tick
	fields{
		"tenants": is(3.0), "rotations_active": is(0.0), "rotations_failed": is(0.0), "overdue": is(0.0),
		"overdue_tenants": is([]any{}), "index_complete": is(true), "index_read": isNumber, "failed_tenants": is([]any{}), "paused": is(0.0), "paused_tenants": is([]any{}), "paused_overdue": is(0.0), "blocked": is(0.0), "blocked_tenants": is(map[string]any{}), "oldest_key_tenant": func(any) string { return "" }, "kek_age": isNumber, "kek_overdue": is(false), "providers": is(map[string]any{}), "evidence_size": isNumber, "evidence_pending": isNumber, "due_within_7d": is(0.0), "oldest_key_age": isNumber, "as_of": isTime,
	}.check(t, status)
	assert.WithinDuration(t, begun, parsedTime(t, status["as_of"]), time.Minute)
	assert.Less(t, status["oldest_key_age"], time.Minute.Seconds())
}

// TestContractRotateMany makes tenants due: some, then all.
func TestContractRotateMany(t *testing.T) {
	s := shared(t)
	mount, ids := fleet(t, s, 3)
	history := func(id string) []map[string]any {
		a := callRoot(t, s, "LIST", mount+"/tenants/"+id+"/dek/rotations", nil)
		if a.Status == http.StatusNotFound {
			return nil
		}
		var all []map[string]any
		for _, key := range keys(t, a) {
			all = append(all, succeeded(t, callRoot(t, s, http.MethodGet, mount+"/tenants/"+id+"/dek/rotations/"+key, nil)))
		}
		return all
	}
	many := func(body map[string]any) answer { return callRoot(t, s, http.MethodPut, mount+"/rotations", body) }

	refused(t, many(nil), http.StatusBadRequest, "all", "tenants")
	refused(t, many(map[string]any{"all": false}), http.StatusBadRequest, "all", "tenants")
	refused(t, many(map[string]any{"all": true, "tenants": ids}), http.StatusBadRequest, "all", "tenants")
	refused(t, many(map[string]any{"tenants": []string{}}), http.StatusBadRequest, "tenants")
	refused(t, many(map[string]any{"tenants": []string{ids[0], "x"}}), http.StatusBadRequest, "tenants", "UUID")
	refused(t, many(map[string]any{"tenants": []string{ids[0], uuid.NewString()}}), http.StatusNotFound, "tenant not found")

	assert.Equal(t, 1.0, succeeded(t, many(map[string]any{"tenants": ids[:1], "reason": "suspicion"}))["scheduled"])
	rotated := func(id string, times int) map[string]any {
		t.Helper()
		var latest map[string]any
		require.Eventually(t, func() bool {
			all := history(id)
			if len(all) > 0 {
				latest = all[0]
			}
			return len(all) == times && latest["status"] == "completed"
		}, rotationLimit, rotationTick)
		return latest
	}
	first := rotated(ids[0], 1)
	assert.Equal(t, []any{"requested", "suspicion"}, []any{first["trigger"], first["reason"]})
	assert.NotEqual(t, "system", first["initiated_by"].(map[string]any)["id"])
	for _, id := range ids[1:] {
		assert.Empty(t, history(id), "nobody asked for it")
	}

	assert.Equal(t, 3.0, succeeded(t, many(map[string]any{"all": true, "reason": "leak"}))["scheduled"])
	for i, id := range ids {
		latest := rotated(id, map[bool]int{true: 2, false: 1}[i == 0])
		assert.Equal(t, []any{"requested", "leak"}, []any{latest["trigger"], latest["reason"]})
	}
}
