// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// metrics reads the mount's metrics, as a parser of Prometheus's does: by name and
// labels.
func metrics(m *enginetest.Mount) (samples map[string]float64, text string) {
	m.T.Helper()
	data := m.Must(enginetest.Read, "metrics", nil)
	require.Equal(m.T, 200, data[logical.HTTPStatusCode])
	require.Regexp(m.T, "^text/plain; version=0.0.4", data[logical.HTTPContentType])
	text = string(data[logical.HTTPRawBody].([]byte))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(m.T, err)
	samples = map[string]float64{}
	for name, family := range families {
		require.NotEmpty(m.T, family.GetHelp(), name)
		for _, s := range family.GetMetric() {
			value := s.GetGauge().GetValue()
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				require.True(m.T, strings.HasSuffix(name, "_total"), name)
				value = s.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				value = float64(s.GetHistogram().GetSampleCount())
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
		m := enginetest.NewMount(t)
		defer m.Close()
		m.DestroyAtOnce()
		before, _ := metrics(m)
		require.NotContains(t, before, "kek_age_seconds", "there is none")
		require.Zero(t, before["rotations_ended_total completed"], "a zero, and no gap")

		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": "Secretive Ltd"})
		writeMany(m, 100, 1000)
		pages := len(m.PageKeys())
		m.Rotated(nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), map[string]any{"rotation_paused": true})
		ciphertext := m.Encrypted(enginetest.TenantID, "x")
		for range 2 {
			m.OpensTo("x", ciphertext)
		}
		m.Refused(400, "", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
		m.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"batch_input": []any{
			map[string]any{"ciphertext": ciphertext}, map[string]any{"ciphertext": ciphertext, "only_if_older": true}, map[string]any{"ciphertext": "x"},
		}, "partial_failure_response_code": 200})
		m.Must(enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), nil)
		m.Must(enginetest.Read, enginetest.ItemPath("item/1"), nil)
		m.Must(enginetest.Read, enginetest.ItemPath("item/1"), nil)
		m.Tick()
		enginetest.Advance(30 * time.Second)

		after, text := metrics(m)
		for name, want := range map[string]float64{
			"tenants": 2, "index_complete": 1, "tenants_by_state paused": 1, "tenants_by_state overdue": 0, "tenants_by_state failed": 0,
			"rotations_started_total": 1, "rotations_ended_total completed": 1, "rotations_ended_total failed": 0, "rotations_unfinished": 0,
			"pages_reencrypted_total": float64(pages), "items_reencrypted_total": 100,
			"texts_sealed_total encrypt": 1, "texts_opened_total decrypt": 2, "texts_refused_total decrypt": 1,
			"texts_sealed_total rewrap": 1, "texts_opened_total rewrap": 2, "texts_refused_total rewrap": 1, "texts_sealed_total datakey": 1,
			"kek_overdue": 0, "kek_rotating": 0, "evidence_entries": 7, "evidence_pending": 0, "damaged_entries": 0,
			"providers ok": 0, "providers denied": 0, "provider_waiting_requests": 0,
		} {
			got, there := after[name]
			require.True(t, there, name)
			require.Equal(t, want, got, name)
		}
		for _, name := range []string{"kek_age_seconds", "oldest_key_age_seconds", "scheduler_lag_seconds", "cache_lookups_total pages hit", "cache_lookups_total records hit", "cache_lookups_total keys hit"} {
			require.Positive(t, after[name], name)
		}
		require.Less(t, after["scheduler_lag_seconds"], 120.0)
		for _, private := range []string{enginetest.TenantID, enginetest.TenantN(1), "Secretive", "item/1", "dek-"} {
			require.NotContains(t, text, private)
		}
	})
}

// The series of many tenants are those of one.
func TestMetricsDoNotGrow(t *testing.T) {
	m := enginetest.WithTenant(t)
	names := func() (all []string) {
		samples, _ := metrics(m)
		delete(samples, "scheduler_lag_seconds") // missing until the schedule has looked
		return slices.Sorted(maps.Keys(samples))
	}
	one := names()
	for n := range 50 {
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), map[string]any{"display_name": fmt.Sprint(n)})
	}
	require.Equal(t, one, names())
}

func TestMetricsPastDamageOfTheKEK(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Storage.Fail(enginetest.FailOn("get", "kek/", storagetest.Before))
	samples, _ := metrics(m)
	require.Zero(t, samples["damaged_entries"], "storage that fails is not damage")
	require.EqualValues(t, 1, samples["tenants"])
	require.NotContains(t, samples, "kek_age_seconds")
}

// A provider's calls are counted by what they came to, and its lease is shown.
func TestMetricsOfKeyProviders(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, enginetest.ItemPath("a"), map[string]any{"data": map[string]any{"v": "1"}})
		m.Provide(nil)
		m.Must(enginetest.Update, "providers/other", enginetest.ProviderBody(nil))
		fresh, _ := metrics(m)
		require.EqualValues(t, 2, fresh["providers ok"])
		require.EqualValues(t, 1, fresh["provider_state other ok"], "nothing has needed it")
		require.Zero(t, fresh["provider_calls_total other ok"], "a zero, and no gap")
		require.NotContains(t, fresh, "provider_lease_seconds owner", "no lease runs")

		m.MoveKEK(enginetest.ProviderName)
		open, _ := metrics(m)
		require.Positive(t, open["provider_calls_total owner ok"])
		require.Equal(t, open["provider_calls_total owner ok"], open["provider_call_duration_seconds owner"])
		require.EqualValues(t, 1, open["provider_leases owner"])
		require.InDelta(t, enginetest.ProviderLease.Seconds(), open["provider_lease_seconds owner"], 2)
		require.Zero(t, open["provider_leases other"])

		for _, trouble := range []struct {
			behaves providertest.Mode
			state   string
		}{{providertest.Denies, "denied"}, {providertest.Hangs, "unavailable"}} {
			m.Transit.Set(trouble.behaves)
			enginetest.Advance(enginetest.ProviderLease + time.Second)
			before, _ := metrics(m)
			_, err := m.Call(enginetest.Read, enginetest.ItemPath("a"), nil)
			require.Error(t, err)
			after, text := metrics(m)
			result := "provider_calls_total owner " + trouble.state
			require.Equal(t, before[result]+1, after[result], trouble.state)
			require.EqualValues(t, 1, after["provider_state owner "+trouble.state])
			require.Zero(t, after["provider_state owner ok"])
			require.Equal(t, []float64{1, 1}, []float64{after["providers ok"], after["providers "+trouble.state]})
			require.Zero(t, after["provider_leases owner"])
			require.NotContains(t, text, enginetest.TenantID)
			require.NotContains(t, text, "owner.example")
		}
		m.Transit.Set(providertest.Works)
		enginetest.Advance(11 * time.Second)
		m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)
		after, _ := metrics(m)
		require.EqualValues(t, 1, after["provider_state owner ok"])

		m.MoveKEK("")
		m.Must(enginetest.Delete, "providers/"+enginetest.ProviderName, nil)
		gone, text := metrics(m)
		require.NotContains(t, text, `provider="owner"`)
		require.EqualValues(t, 1, gone["providers ok"])
		m.Provide(nil)
		anew, _ := metrics(m)
		require.Zero(t, anew["provider_calls_total owner denied"], "another provider has had the name")
	})
}

// However many providers there are, a hundred have series of their own.
func TestMetricsOfManyKeyProviders(t *testing.T) {
	m := enginetest.WithTenant(t)
	for n := range 103 {
		m.Must(enginetest.Update, fmt.Sprintf("providers/p%03d", n), enginetest.ProviderBody(nil))
	}
	samples, text := metrics(m)
	require.EqualValues(t, 103, samples["providers ok"])
	require.Contains(t, text, `provider="p099"`)
	require.NotContains(t, text, `provider="p100"`)

	m.Storage.Fail(enginetest.FailOn("list", "providers/", storagetest.Before))
	samples, _ = metrics(m)
	require.EqualValues(t, 1, samples["tenants"], "the others are there")
	require.NotContains(t, samples, "providers ok")
}

func TestMetricsOfHolders(t *testing.T) {
	withHolders(t, []string{"table"}, func(w *followed) {
		samples, _ := metrics(w.Mount)
		require.Zero(t, samples["holder_reports_total taken"], "a zero, and no gap")
		require.Zero(t, samples["external_keys_destroyed_total"])
		w.gone("table")
		w.Refused(400, "", enginetest.Update, enginetest.HolderPath("table/report"), map[string]any{"oldest_version": 9})
		w.Refused(404, "", enginetest.Update, enginetest.HolderPath("other/report"), map[string]any{"oldest_version": 1})
		w.after(retention)
		samples, text := metrics(w.Mount)
		require.EqualValues(t, 1, samples["holder_reports_total taken"])
		require.EqualValues(t, 1, samples["holder_reports_total refused"])
		require.EqualValues(t, 1, samples["external_keys_destroyed_total"])
		require.NotContains(t, text, "table")
	})
}

func TestMetricsCountWaitingEvents(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Storage.Fail(enginetest.FailOn("put", "evidence/", storagetest.Before))
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		samples, _ := metrics(m)
		require.Positive(t, samples["evidence_pending"])
		m.Storage.Fail(nil)
		enginetest.Advance(time.Minute)
		samples, _ = metrics(m)
		require.Zero(t, samples["evidence_pending"])
	})
}

func TestMetricsCountDamagedEntries(t *testing.T) {
	m := enginetest.WithTenant(t)
	n := m.Disk.Damage(storagetest.ErrAltered, func(key string) bool { return strings.HasPrefix(key, "kek/current") })
	require.Equal(t, 1, n)
	m.Crash()
	m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer m.Close()
	_, err := m.Call(enginetest.Read, "kek", nil)
	require.Error(t, err)
	samples, _ := metrics(m)
	require.EqualValues(t, 1, samples["damaged_entries"])
}
