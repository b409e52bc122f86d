// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package monitoringtest_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/monitoringtest"
)

func alertNames(t *testing.T) (names []string) {
	t.Helper()
	for _, a := range monitoringtest.Alerts(t) {
		names = append(names, a.Name)
	}
	return names
}

// TestAlertRules plays the incidents of alerts_test.yml.
func TestAlertRules(t *testing.T) {
	promtool := monitoringtest.Tool(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "alerts.yml"}, {"check", "config", "--syntax-only", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"},
	} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = monitoringtest.Dir(t)
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "promtool %s: %s", strings.Join(args, " "), out)
	}
}

// TestEveryAlertHasAnIncident: one in which it fires, after one in which it does not yet.
func TestEveryAlertHasAnIncident(t *testing.T) {
	var file struct {
		Tests []struct {
			Rules []struct {
				Name     string           `yaml:"alertname"`
				Expected []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	require.NoError(t, yaml.Unmarshal(monitoringtest.Read(t, "alerts_test.yml"), &file))
	fires, waits := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, r := range test.Rules {
			if len(r.Expected) > 0 {
				fires[r.Name] = true
			} else {
				waits[r.Name] = true
			}
		}
	}
	for _, a := range monitoringtest.Alerts(t) {
		assert.True(t, fires[a.Name], "no incident fires %s", a.Name)
		assert.True(t, waits[a.Name] || a.For == "", "nothing shows that %s waits", a.Name)
	}
}

// TestRunbook holds the rules and the runbook against each other.
func TestRunbook(t *testing.T) {
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| <a id=\"([a-z]+)\"></a>`([A-Za-z]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(string(monitoringtest.Read(t, "runbook.md")), -1) {
		assert.Equal(t, strings.ToLower(m[2]), m[1])
		rows = append(rows, m[2])
	}
	assert.Equal(t, alertNames(t), rows, "one row for each, in the order of the rules")
	for _, a := range monitoringtest.Alerts(t) {
		assert.Equal(t, "runbook.md#"+strings.ToLower(a.Name), a.Annotations["runbook"])
		assert.NotEmpty(t, a.Annotations["summary"], a.Name)
		assert.Contains(t, []string{"critical", "warning"}, a.Labels["severity"], a.Name)
	}
}

// TestReadmeSaysHowEachAlertIsTested: by an incident on a real Vault, or why not.
func TestReadmeSaysHowEachAlertIsTested(t *testing.T) {
	assert.ElementsMatch(t, alertNames(t), append(monitoringtest.Played(t), monitoringtest.NotPlayed(t)...))
}

// TestDashboard: panels have names and IDs of their own, lie beside each other, and ask for
// something.
func TestDashboard(t *testing.T) {
	panels := monitoringtest.Panels(t)
	var ids []int
	taken := map[[2]int]string{}
	for _, p := range panels {
		assert.NotContains(t, ids, p.ID, p.Title)
		ids = append(ids, p.ID)
		assert.NotEmpty(t, p.Title)
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				place := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				assert.Empty(t, taken[place], "%s lies on it", p.Title)
				taken[place] = p.Title
			}
		}
		assert.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		var refs []string
		for _, target := range p.Targets {
			assert.NotContains(t, refs, target.RefID, p.Title)
			refs = append(refs, target.RefID)
			assert.NotEmpty(t, monitoringtest.Names(target.Expr), p.Title)
		}
	}
	assert.True(t, slices.IsSorted(ids))
}
