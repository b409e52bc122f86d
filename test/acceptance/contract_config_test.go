// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestContractConfig(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	path := mount + "/config"
	read := func(t *testing.T) map[string]any { return succeeded(t, callRoot(t, s, http.MethodGet, path, nil)) }

	defaults := read(t)
	for field, c := range (fields{
		// The UUID that Vault tells the backend of a mount. sys/mounts shows
		// another one of the same mount, which plugins are not told.
		"org_id": isUUID, "rotation_parallelism": is(32.0), "max_item_bytes": is(262144.0),
		"retired_key_retention": is(604800.0), "max_concurrent_rotations": is(64.0), "scheduler_jitter": is(86400.0),
		"data_key_lease": is(3600.0), "manual_rotations_per_hour": is(60.0),
	}) {
		assert.Empty(t, c(defaults[field]), field)
	}
	assert.Equal(t, defaults, read(t))

	t.Run("only the fields named change", func(t *testing.T) {
		for _, change := range []map[string]any{
			{"rotation_parallelism": 4},
			{"org_id": "52ZSTB0IDK6dXxaEQLUaQu"},
			{"max_item_bytes": 393216},
			{"max_item_bytes": "1000", "rotation_parallelism": "1"},
			{}, // the command line sends text
		} {
			want := read(t)
			for field, value := range change {
				switch value {
				case "1000":
					value = 1000
				case "1":
					value = 1
				}
				if n, ok := value.(int); ok {
					value = float64(n)
				}
				want[field] = value
			}
			a := callRoot(t, s, http.MethodPut, path, change)
			require.Less(t, a.Status, 300, a.errors())
			assert.Equal(t, want, read(t), "after %v", change)
		}
	})
	t.Run("durations: strings in, seconds out", func(t *testing.T) {
		for in, out := range map[any]float64{"72h": 259200, "90m": 5400, "0": 0, 0: 0, 60: 60, "60": 60, "168h": 604800} {
			for _, field := range []string{"retired_key_retention", "scheduler_jitter"} {
				a := callRoot(t, s, http.MethodPut, path, map[string]any{field: in})
				require.Less(t, a.Status, 300, a.errors())
				assert.Equal(t, out, read(t)[field], "%s %v", field, in)
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		before := read(t)
		for _, c := range []struct {
			field string
			value any
		}{
			{"rotation_parallelism", 0},
			{"rotation_parallelism", -1},
			{"rotation_parallelism", 33},
			{"rotation_parallelism", 1.5},
			{"rotation_parallelism", "many"},
			{"max_item_bytes", 0},
			{"max_item_bytes", 393217},
			{"max_item_bytes", []int{1}},
			{"retired_key_retention", -1},
			{"retired_key_retention", "soon"},
			{"max_concurrent_rotations", 0},
			{"scheduler_jitter", "-1h"},
			{"data_key_lease", "24h1s"},
			{"data_key_lease", "-1s"},
			{"org_id", ""},
			{"org_id", []string{"a"}},
		} {
			// Another field of the same request is not taken either.
			body := map[string]any{"org_id": "other", "rotation_parallelism": 2, "max_item_bytes": 2}
			body[c.field] = c.value
			refused(t, callRoot(t, s, http.MethodPut, path, body), http.StatusBadRequest, c.field)
			assert.Equal(t, before, read(t), "%s %v", c.field, c.value)
		}
	})
	t.Run("mounts do not share it", func(t *testing.T) {
		assert.NotEqual(t, read(t)["org_id"], succeeded(t, callRoot(t, s, http.MethodGet, "dek/config", nil))["org_id"])
	})
}

func TestContractMaxItemBytes(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	tenant := mount + "/tenants/" + devTenant
	succeeded(t, callRoot(t, s, http.MethodPut, tenant, map[string]any{}))
	item := tenant + "/secrets/large"
	write := func(n int) answer {
		return callRoot(t, s, http.MethodPut, item, map[string]any{"data": map[string]any{"v": text(n)}})
	}
	refused(t, write(262144), http.StatusRequestEntityTooLarge, "262144")
	assert.Equal(t, http.StatusOK, write(260000).Status, "the default leaves room for this")

	a := callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{"max_item_bytes": 1000})
	require.Less(t, a.Status, 300, a.errors())
	refused(t, write(1000), http.StatusRequestEntityTooLarge, "1000")
	assert.Equal(t, http.StatusOK, callRoot(t, s, http.MethodGet, item, nil).Status, "what is there stays")
	assert.Equal(t, http.StatusOK, write(900).Status)

	t.Run("metadata counts", func(t *testing.T) {
		refused(t, callRoot(t, s, http.MethodPut, item, map[string]any{
			"data": map[string]any{"v": text(500)}, "metadata": map[string]string{"m": text(500)},
		}), http.StatusRequestEntityTooLarge)
	})
	t.Run("a patch that grows it", func(t *testing.T) {
		refused(t, callRoot(t, s, http.MethodPatch, item, map[string]any{"data": map[string]any{"w": text(500)}}),
			http.StatusRequestEntityTooLarge)
		data := succeeded(t, callRoot(t, s, http.MethodGet, item, nil))
		assert.Equal(t, map[string]any{"v": text(900)}, data["data"])
	})
}

func TestContractRotationSettings(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	path := mount + "/key/rotationSettings"
	read := func(t *testing.T) map[string]any { return succeeded(t, callRoot(t, s, http.MethodGet, path, nil)) }
	org := succeeded(t, callRoot(t, s, http.MethodGet, mount+"/config", nil))["org_id"]
	valid := []any{"90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"}
	settings := func(interval string) map[string]any {
		return map[string]any{"org_id": org, "valid_rotation_intervals": valid, "rotation_interval": interval}
	}
	assert.Equal(t, settings("365_DAYS"), read(t), "by default")

	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodPatch} {
		t.Run(method, func(t *testing.T) {
			for _, interval := range []string{"90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"} {
				a := callRoot(t, s, method, path, map[string]any{"rotation_interval": interval})
				require.Less(t, a.Status, 300, a.errors())
				assert.Equal(t, settings(interval), read(t))
			}
			for _, body := range []any{
				map[string]any{"rotation_interval": "91_DAYS"},
				map[string]any{"rotation_interval": "120_days"},
				map[string]any{"rotation_interval": " 120_DAYS"},
				map[string]any{"rotation_interval": ""},
				map[string]any{"rotation_interval": 120},
				map[string]any{"rotation_interval": nil},
				map[string]any{"rotationInterval": "120_DAYS"},
				map[string]any{},
			} {
				a := callRoot(t, s, method, path, body)
				refused(t, a, http.StatusBadRequest, "rotation_interval", "90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS")
				assert.Equal(t, settings("365_DAYS"), read(t), "%v", body)
			}
		})
	}
	t.Run("org_id follows the configuration", func(t *testing.T) {
		a := callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{"org_id": "52ZSTB0IDK6dXxaEQLUaQu"})
		require.Less(t, a.Status, 300, a.errors())
		assert.Equal(t, "52ZSTB0IDK6dXxaEQLUaQu", read(t)["org_id"])
	})
	t.Run("PATCH has a media type of its own", func(t *testing.T) {
		a := send(t, http.MethodPatch, s.VaultAddr()+"/v1/"+path,
			http.Header{"X-Vault-Token": {s.RootToken()}, "Content-Type": {"application/json"}},
			map[string]any{"rotation_interval": "90_DAYS"})
		assert.Equal(t, http.StatusUnsupportedMediaType, a.Status)
		assert.Equal(t, "365_DAYS", read(t)["rotation_interval"])
	})
}
