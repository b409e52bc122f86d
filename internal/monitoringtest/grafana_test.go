// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package monitoringtest_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/monitoringtest"
)

// TestDashboardFitsGrafanasTypes: Grafana's published types have every field of the
// dashboard, of its panels' options and of its queries, and need no other.
func TestDashboardFitsGrafanasTypes(t *testing.T) {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	raw := monitoringtest.Read(t, "dashboard.json")
	var d dashboard.Dashboard //nolint:staticcheck // the form of files, which every Grafana imports
	require.Empty(t, faults(t, d.UnmarshalJSONStrict(raw)))
	assert.Empty(t, faults(t, d.Validate()))
	assert.Len(t, d.Panels, len(monitoringtest.Panels(t)))
	for _, of := range []string{"refresh", "gridPos", "reduceOptions", "legendFormat", "showLegend", "allValue"} {
		renamed := bytes.ReplaceAll(raw, []byte(`"`+of+`"`), []byte(`"`+of+`s"`))
		var d dashboard.Dashboard //nolint:staticcheck // as above
		assert.NotEmpty(t, faults(t, d.UnmarshalJSONStrict(renamed)), "a field that Grafana does not know is found: %s", of)
	}
}

// faults are what Grafana's types find. Their error is never nil.
func faults(t *testing.T, err error) (found cog.BuildErrors) {
	t.Helper()
	if !errors.As(err, &found) {
		require.NoError(t, err)
	}
	return found
}
