// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// metrics reads the mount's metrics, as a parser of Prometheus's does: by name and
// labels.
func (m *mount) metrics() (samples map[string]float64, text string) {
	m.t.Helper()
	data := m.must(read, "metrics", nil)
	require.Equal(m.t, 200, data[logical.HTTPStatusCode])
	require.Regexp(m.t, "^text/plain; version=0.0.4", data[logical.HTTPContentType])
	text = string(data[logical.HTTPRawBody].([]byte))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(m.t, err)
	samples = map[string]float64{}
	for name, family := range families {
		require.NotEmpty(m.t, family.GetHelp(), name)
		for _, s := range family.GetMetric() {
			value := s.GetGauge().GetValue()
			if family.GetType() == dto.MetricType_COUNTER {
				require.True(m.t, strings.HasSuffix(name, "_total"), name)
				value = s.GetCounter().GetValue()
			}
			key := strings.TrimPrefix(name, "dek_")
			for _, l := range s.GetLabel() {
				key += " " + l.GetValue()
			}
			samples[key] = value
		}
	}
	return samples, text
}

func TestMetricsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.destroyAtOnce()
		before, _ := m.metrics()
		require.NotContains(t, before, "kek_age_seconds", "there is none")
		require.Zero(t, before["rotations_ended_total completed"], "a zero, and no gap")

		m.must(update, tenantPath(""), map[string]any{"display_name": "Secretive Ltd"})
		writeMany(m, 100, 1000)
		pages := len(m.pageKeys())
		m.rotated(nil)
		m.must(update, "tenants/"+tenantN(1), map[string]any{"rotation_paused": true})
		ciphertext := m.encrypted(testTenant, "x")
		for range 2 {
			m.opensTo("x", ciphertext)
		}
		m.refused(400, "", update, tenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
		m.must(update, tenantPath("/rewrap"), map[string]any{"batch_input": []any{
			map[string]any{"ciphertext": ciphertext}, map[string]any{"ciphertext": ciphertext, "only_if_older": true}, map[string]any{"ciphertext": "x"},
		}, "partial_failure_response_code": 200})
		m.must(update, tenantPath("/datakey/plaintext"), nil)
		m.must(read, itemPath("item/1"), nil)
		m.must(read, itemPath("item/1"), nil)
		m.tick()
		advance(30 * time.Second)

		after, text := m.metrics()
		for name, want := range map[string]float64{
			"tenants": 2, "index_complete": 1, "tenants_by_state paused": 1, "tenants_by_state overdue": 0, "tenants_by_state failed": 0,
			"rotations_started_total": 1, "rotations_ended_total completed": 1, "rotations_ended_total failed": 0, "rotations_unfinished": 0,
			"pages_reencrypted_total": float64(pages), "items_reencrypted_total": 100,
			"texts_sealed_total encrypt": 1, "texts_opened_total decrypt": 2, "texts_refused_total decrypt": 1,
			"texts_sealed_total rewrap": 1, "texts_opened_total rewrap": 2, "texts_refused_total rewrap": 1, "texts_sealed_total datakey": 1,
			"kek_overdue": 0, "kek_rotating": 0, "evidence_entries": 0,
		} {
			got, there := after[name]
			require.True(t, there, name)
			require.Equal(t, want, got, name)
		}
		for _, name := range []string{"kek_age_seconds", "oldest_key_age_seconds", "scheduler_lag_seconds", "cache_lookups_total pages hit", "cache_lookups_total records hit", "cache_lookups_total keys hit"} {
			require.Positive(t, after[name], name)
		}
		require.Less(t, after["scheduler_lag_seconds"], 120.0)
		for _, private := range []string{testTenant, tenantN(1), "Secretive", "item/1", "dek-"} {
			require.NotContains(t, text, private)
		}
	})
}

// The series of many tenants are those of one.
func TestMetricsDoNotGrow(t *testing.T) {
	m := withTenant(t)
	names := func() (all []string) {
		samples, _ := m.metrics()
		delete(samples, "scheduler_lag_seconds") // missing until the schedule has looked
		return slices.Sorted(maps.Keys(samples))
	}
	one := names()
	for n := range 50 {
		m.must(update, "tenants/"+tenantN(n), map[string]any{"display_name": fmt.Sprint(n)})
	}
	require.Equal(t, one, names())
}

func TestMetricsPastDamageOfTheKEK(t *testing.T) {
	m := withTenant(t)
	m.storage.Fail(on("get", "kek/", storagetest.Before))
	samples, _ := m.metrics()
	require.EqualValues(t, 1, samples["tenants"])
	require.NotContains(t, samples, "kek_age_seconds")
}
