// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestConfig(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	require.Equal(t, map[string]any{
		"org_id":               "6f2b1a6e-0000-4000-8000-000000000000",
		"rotation_parallelism": 32,
		"max_item_bytes":       262144,

		"retired_key_retention": int64(604800), "max_concurrent_rotations": 64, "scheduler_jitter": int64(86400),
		"min_deletion_window": int64(0), "min_deletion_window_pending": nil,
		"data_key_lease": int64(3600), "cache_bytes": 0, "kek_rotation_interval": int64(31536000), "manual_rotations_per_hour": 60,
	}, m.Must(enginetest.Read, "config", nil))
	m.Must(enginetest.Update, "config", map[string]any{"rotation_parallelism": 8})
	m.Must(enginetest.Update, "config", map[string]any{"org_id": "acme"})
	m.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "48h", "scheduler_jitter": 0})
	want := map[string]any{
		"org_id": "acme", "rotation_parallelism": 8, "max_item_bytes": 262144,
		"retired_key_retention": int64(172800), "max_concurrent_rotations": 64, "scheduler_jitter": int64(0),
		"min_deletion_window": int64(0), "min_deletion_window_pending": nil,
		"data_key_lease": int64(3600), "cache_bytes": 0, "kek_rotation_interval": int64(31536000), "manual_rotations_per_hour": 60,
	}
	require.Equal(t, want, m.Must(enginetest.Read, "config", nil), "only the fields named change")
	for says, data := range map[string]map[string]any{
		"rotation_parallelism must be from 1 to 32": {"rotation_parallelism": 33},
		"rotation_parallelism must be from 1":       {"rotation_parallelism": 0, "org_id": "x"},
		"rotation_parallelism must be a whole":      {"rotation_parallelism": 1.5},
		"max_item_bytes must be from 1 to 393216":   {"max_item_bytes": 393217},
		"org_id must not be empty":                  {"org_id": ""},
		"org_id must not have control":              {"org_id": "a\nb"},
		"org_id must have at most":                  {"org_id": strings.Repeat("x", 513)},
		"retired_key_retention must be from":        {"retired_key_retention": "100000h"},
		"retired_key_retention":                     {"retired_key_retention": "soon"},
		"retired_key_retention must be a duration":  {"retired_key_retention": "999ms"},
		"retired_key_retention must be a duration of whole seconds, such as 24h or 86400, from 0 to 292 years": {"retired_key_retention": -1},
		"scheduler_jitter must be a duration":     {"scheduler_jitter": "1.5s"},
		"scheduler_jitter must be from":           {"scheduler_jitter": "10000h"},
		"max_concurrent_rotations must be from 1": {"max_concurrent_rotations": 0},
	} {
		m.Refused(400, says, enginetest.Update, "config", data)
	}
	re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer re.Close()
	require.Equal(t, want, re.Must(enginetest.Read, "config", nil))
}

func TestRotationSettings(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	want := map[string]any{
		"org_id":                   "6f2b1a6e-0000-4000-8000-000000000000",
		"valid_rotation_intervals": []string{"90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"},
		"rotation_interval":        "365_DAYS",
	}
	require.Equal(t, want, m.Must(enginetest.Read, "key/rotationSettings", nil))
	for _, op := range []logical.Operation{enginetest.Update, logical.PatchOperation} {
		for _, interval := range settings.RotationIntervals {
			want["rotation_interval"] = interval
			require.Equal(t, want, m.Must(op, "key/rotationSettings", map[string]any{"rotation_interval": interval}))
			require.Equal(t, want, m.Must(enginetest.Read, "key/rotationSettings", nil))
		}
		for _, bad := range []any{nil, "", "91_DAYS", "90_days", "90", 90, []any{"90_DAYS"}} {
			m.Refused(400, "rotation_interval", op, "key/rotationSettings", map[string]any{"rotation_interval": bad})
		}
		m.Refused(400, "90_DAYS, 120_DAYS, 180_DAYS, 365_DAYS", op, "key/rotationSettings", nil)
	}
}

func TestTenants(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	m.Refused(404, "tenant not found", enginetest.Read, enginetest.TenantPath(""), nil)
	require.Nil(t, m.Must(enginetest.List, "tenants/", nil)["keys"])

	made := m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": "Acme", "key_type": "aes256-gcm"})
	require.Equal(t, "aes256-gcm", made["key_type"])
	require.Equal(t, "active", made["state"])
	require.Equal(t, map[string]int{"credentials": 0, "api_keys": 0, "secrets": 0}, made["item_counts"])
	require.Nil(t, made["last_rotated_at"])
	require.Regexp(t, `^dek-[0-9a-f-]{36}$`, made["current_key_id"])

	changed := m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": "90_DAYS"})
	require.Equal(t, "Acme", changed["display_name"], "what is not named stays")
	require.Equal(t, made["current_key_id"], changed["current_key_id"])
	created, err := time.Parse(time.RFC3339, made["created_at"].(string))
	require.NoError(t, err)
	require.Equal(t, api.Time(created.AddDate(0, 0, 90)), changed["next_rotation_at"])

	for says, data := range map[string]map[string]any{
		"key_type of an existing": {"key_type": "xaes256-gcm"},
		"key_type must be":        {"key_type": "rsa"},
		"rotation_interval":       {"rotation_interval": "1_DAY"},
		"display_name":            {"display_name": strings.Repeat("x", 513)},
		"rotation_paused":         {"rotation_paused": "sometimes"},
	} {
		m.Refused(400, says, enginetest.Update, enginetest.TenantPath(""), data)
	}
	for _, id := range []string{"acme", "3FA85F64-5717-4562-B3FC-2C963F66AFA6", "3fa85f64-5717-4562-b3fc-2c963f66afa", "+", "*", ".."} {
		m.Refused(400, "tenant_id", enginetest.Update, "tenants/"+id, nil)
	}

	m.Must(enginetest.Update, "tenants/00000000-0000-4000-8000-000000000000", nil)
	m.Must(enginetest.Update, "tenants/ffffffff-0000-4000-8000-000000000000", nil)
	all := []string{"00000000-0000-4000-8000-000000000000", enginetest.TenantID, "ffffffff-0000-4000-8000-000000000000"}
	require.Equal(t, all, m.Must(enginetest.List, "tenants/", nil)["keys"])
	require.Equal(t, all[:2], m.Must(enginetest.List, "tenants/", map[string]any{"limit": 2})["keys"])
	require.Equal(t, all[2:], m.Must(enginetest.List, "tenants/", map[string]any{"limit": 2, "after": all[1]})["keys"])
}

func TestRotationObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Refused(404, "tenant not found", enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		m.DestroyAtOnce()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
		before := m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)

		started := m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"reason": "leak"})
		require.Regexp(t, `^rot-[0-9a-f-]{36}$`, started["rotation_id"])
		require.Equal(t, "in_progress", started["status"])
		require.Equal(t, before["current_key_id"], started["previous_key_id"])
		require.Equal(t, map[string]int{"credentials": 0, "api_keys": 0, "secrets": 1}, started["items_to_rotate"])
		require.Equal(t, "leak", started["reason"])
		require.Equal(t, "manual", started["trigger"])
		require.NotNil(t, started["estimated_completion"])
		require.Nil(t, started["completed_at"])

		enginetest.Advance(time.Second)
		id := started["rotation_id"].(string)
		over := m.Status(id)
		require.Equal(t, "completed", over["status"])
		require.Equal(t, 100.0, over["percent"])
		require.Equal(t, started["items_to_rotate"], over["items_rotated"])
		require.Nil(t, over["estimated_completion"])
		require.NotNil(t, over["completed_at"])
		require.Equal(t, []string{id}, m.Must(enginetest.List, enginetest.TenantPath("/dek/rotations"), nil)["keys"])
		require.Nil(t, m.Must(enginetest.List, "rotations/", nil)["keys"], "none is unfinished")

		dek := m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)
		require.Equal(t, 2, dek["current_version"])
		require.Equal(t, started["new_key_id"], dek["current_key_id"])
		versions := dek["versions"].([]map[string]any)
		require.Equal(t, "destroyed", versions[0]["state"])
		require.Equal(t, 0, versions[0]["pages"])
		require.Equal(t, "active", versions[1]["state"])
		require.Equal(t, 1, versions[1]["pages"])
		require.Equal(t, id, versions[1]["rotation_id"])

		m.Refused(404, "rotation not found", enginetest.Read, enginetest.TenantPath("/dek/rotations/rot-"+enginetest.TenantID), nil)
		m.Refused(400, "key_type", enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"key_type": "x"})
	})
}

func TestOneRotationAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
		synctest.Wait() // nothing else waits for the tenant's lock
		longest := strings.Repeat("k", 512)
		hold := make(chan struct{})
		m.Storage.Hook(func(op, key string) {
			if op == "put" && strings.HasPrefix(key, "pages/") {
				<-hold // the sweep stays at its first page
			}
		})
		first, err := m.CallAs("request-1", enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": longest})
		require.NoError(t, err)
		id := first.Data["rotation_id"]
		synctest.Wait()

		resp, err := m.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		require.Equal(t, 409, enginetest.Code(resp, err))
		require.ErrorContains(t, err, id.(string))
		require.Equal(t, map[string]any{"rotation_id": id}, resp.Data["data"])

		again := m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": longest})
		require.Equal(t, id, again["rotation_id"], "the same key gets the same rotation")
		require.Equal(t, []string{enginetest.TenantID + "/" + id.(string)}, m.Must(enginetest.List, "rotations/", nil)["keys"])

		for _, key := range m.Disk.Keys("") {
			require.NotContains(t, string(m.Disk.Value(key)), longest, "records keep a hash, or they would fill: %s", key)
		}

		m.Storage.Hook(nil)
		close(hold)
		enginetest.Advance(time.Second)
		again = m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": longest})
		require.Equal(t, id, again["rotation_id"], "also once it is over")
		require.Equal(t, "completed", again["status"])
		require.Equal(t, 2, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"])
	})
}

func TestRotationChangesTheKeyType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"key_type": "aes256-gcm"})
		enginetest.Advance(time.Second)
		require.Equal(t, "aes256-gcm", m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["key_type"])
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		enginetest.Advance(time.Second)
		require.Equal(t, "aes256-gcm", m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["key_type"], "it stays without being named")
		require.Equal(t, map[string]any{"value": "v"}, m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)["data"])
	})
}

// A page that does not open is reported, the rest is rotated, its key is kept,
// and a new rotation takes what was left once the page is repaired.
func TestDamagedPageFailsARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		w := enginetest.NewOracle(m)
		w.Create()
		w.Bulk(40, 3000)
		key := m.Disk.Keys("pages/")[1]
		page := m.Disk.Value(key)
		page[len(page)-1] ^= 1
		m.Disk.Set(key, page)

		id := m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)["rotation_id"].(string)
		enginetest.Advance(time.Second)
		st := m.Status(id)
		require.Equal(t, "failed", st["status"])
		require.Len(t, st["failures"], 1)
		require.Positive(t, st["items_failed"])
		rotated := st["items_rotated"].(map[string]int)["secrets"]
		require.Equal(t, 40, rotated+st["items_failed"].(int), "accounts")
		versions := m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "deactivated", versions[0]["state"])
		require.Equal(t, 1, versions[0]["pages"])

		page[len(page)-1] ^= 1
		m.Disk.Set(key, page)
		id = m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)["rotation_id"].(string)
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", m.Status(id)["status"])
		w.ReadsBack()
		w.AtRest()
	})
}

// Storage that has trouble for a while holds a rotation up and does not end it.
func TestRotationOutlastsTroubleWithStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		w := enginetest.NewOracle(m)
		w.Create()
		w.Bulk(40, 3000)
		w.Rotate()
		for i := range 12 {
			m.Storage.FailNext(1+i%3, storagetest.AfterStale)
			enginetest.Advance(5 * time.Second)
		}
		m.Storage.FailNext(0, storagetest.None)
		enginetest.Advance(time.Minute)
		m.Disk.RestartVault()
		w.ReadsBack()
		w.AtRest()
	})
}
