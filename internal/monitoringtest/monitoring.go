// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package monitoringtest reads docs/monitoring for tests, and runs Debian's prometheus and
// promtool on it.
package monitoringtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// Dir is the directory of the repository's docs/monitoring.
func Dir(t *testing.T) string {
	t.Helper()
	root, err := devstack.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "docs", "monitoring")
}

// Read returns a file of docs/monitoring.
func Read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Dir(t), name)) // #nosec G304 -- of the repository
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Tool is the path of prometheus or promtool. Where there is none the test is skipped, and
// fails under CI=true: scripts/prometheus.sh provides them.
func Tool(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("PROMETHEUS_BIN"), filepath.Join(Dir(t), "..", "..", "bin")} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); dir != "" && err == nil && info.Mode().IsRegular() { // #nosec G703 -- the tester's own
			return path
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	missing := name + " is missing (PROMETHEUS_BIN, bin/, the PATH): run scripts/prometheus.sh; this test did not run"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// Alert is a rule of alerts.yml.
type Alert struct {
	Name        string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// Alerts are the rules of alerts.yml.
func Alerts(t *testing.T) (all []Alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []Alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(Read(t, "alerts.yml"), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// Panel is a panel of the dashboard, or a row of panels.
type Panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

// Panels are those of dashboard.json.
func Panels(t *testing.T) []Panel {
	t.Helper()
	var file struct {
		Panels []Panel `json:"panels"`
	}
	if err := json.Unmarshal(Read(t, "dashboard.json"), &file); err != nil {
		t.Fatal(err)
	}
	return file.Panels
}

// Variables are what the dashboard's variables ask for: without label_values, which is
// Grafana's.
func Variables(t *testing.T) (exprs []string) {
	t.Helper()
	var file struct {
		Templating struct {
			List []struct {
				Type  string          `json:"type"`
				Query json.RawMessage `json:"query"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(Read(t, "dashboard.json"), &file); err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Templating.List {
		var asked struct {
			Query string `json:"query"`
		}
		if v.Type != "query" {
			continue
		}
		if err := json.Unmarshal(v.Query, &asked); err != nil {
			t.Fatal(err)
		}
		found := labelValues.FindStringSubmatch(asked.Query)
		if found == nil {
			t.Fatalf("a variable asks for %s", asked.Query)
		}
		exprs = append(exprs, found[1])
	}
	return exprs
}

var labelValues = regexp.MustCompile(`^label_values\((.+), [a-z]+\)$`)

// howTested is a row of README.md: an alert, and what fires it.
var howTested = regexp.MustCompile("(?m)^\\| `(DEK[A-Za-z]+)` \\| ([^|]+) \\|$")

// Played are the alerts that an incident on a real Vault fires, as README.md says.
// NotPlayed are the others.
func Played(t *testing.T) []string { return tested(t, true) }

// NotPlayed are the alerts that the rules' own tests alone fire.
func NotPlayed(t *testing.T) []string { return tested(t, false) }

func tested(t *testing.T, played bool) (alerts []string) {
	t.Helper()
	for _, row := range howTested.FindAllStringSubmatch(string(Read(t, "README.md")), -1) {
		if strings.HasPrefix(row[2], "`promtool` alone: ") != played {
			alerts = append(alerts, row[1])
		}
	}
	return alerts
}

var metricName = regexp.MustCompile(`\b(?:dek|go|process)_[a-z0-9_]+`)

// Names are the metrics that a PromQL expression names.
func Names(expr string) []string { return metricName.FindAllString(expr, -1) }
