// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	settingsPath = "key/rotationSettings"
	configPath   = "config"
)

type settingsAnswer struct {
	OrgID     string   `json:"org_id"`
	Intervals []string `json:"valid_rotation_intervals"`
	Interval  string   `json:"rotation_interval"`
}

// setting is one of the mount's, as the engine shows it.
type setting struct{ Name, Value string }

type settingsPage struct {
	Settings  settingsAnswer
	Config    []setting
	MayChange bool
}

// settings is GET /ui/settings.
func (s *site) settings(v *visit) error {
	if err := v.require(settingsPath, "read", configPath); err != nil {
		return err
	}
	data := &settingsPage{MayChange: v.may(settingsPath, "update")}
	if err := v.get(settingsPath, nil, &data.Settings); err != nil {
		return err
	}
	if v.may(configPath, "read") {
		var config map[string]json.RawMessage
		if err := v.get(configPath, nil, &config); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(config)) {
			data.Config = append(data.Config, setting{name, settingText(name, config[name])})
		}
	}
	return v.show("settings", text("settings.title"), data)
}

// durations are settings that the engine answers in seconds.
var durations = []string{"data_key_lease", "kek_rotation_interval", "min_deletion_window", "retired_key_retention", "scheduler_jitter"}

// settingText is a setting's value as a write takes it, with the unit of a duration.
func settingText(name string, value json.RawMessage) string {
	plain := strings.Trim(string(value), `"`)
	seconds, err := strconv.ParseInt(plain, 10, 64)
	if err != nil || !slices.Contains(durations, name) {
		return plain
	}
	for _, unit := range []struct {
		seconds int64
		name    string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}} {
		if seconds != 0 && seconds%unit.seconds == 0 {
			return strconv.FormatInt(seconds/unit.seconds, 10) + unit.name
		}
	}
	return strconv.FormatInt(seconds, 10) + "s"
}

// changeSettings is POST /ui/settings.
func (s *site) changeSettings(v *visit) error {
	if err := v.put(settingsPath, map[string]any{"rotation_interval": v.r.PostFormValue("rotation_interval")}, nil); err != nil {
		return err
	}
	return v.back(Root+"settings", text("said.saved"))
}
