// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"strconv"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Configure changes the mount's configuration.
func (w *Oracle) Configure(field string, value any) { w.change("config", field, value) }

// SetInterval changes the organization's rotation interval.
func (w *Oracle) SetInterval(interval string) {
	w.change("key/rotationSettings", "rotation_interval", interval)
}

func (w *Oracle) change(path, field string, value any) {
	w.Do(logical.UpdateOperation, path, map[string]any{field: value}, func(w *Oracle, _ *logical.Response) {
		if w.Settings == nil {
			w.Settings = map[string]any{}
		}
		w.Settings[field] = value
	})
}

// settingsAttested checks that the log has every change of settings that was acknowledged:
// its changes follow from each other, and end with what is in force.
func (w *Oracle) settingsAttested(events []*evidence.Event) {
	w.T.Helper()
	if w.Settings == nil {
		return
	}
	config := w.Must(Read, "config", nil)
	rotation := w.Must(Read, "key/rotationSettings", nil)["rotation_interval"].(string)
	logged := w.settingsOf(events)
	for field := range w.Settings {
		inForce := strconv.Itoa(int(settings.IntervalLength(rotation) / time.Second))
		if field != "rotation_interval" {
			inForce = strconv.FormatInt(int64Of(w.T, config[field]), 10)
		}
		require.Equal(w.T, inForce, logged[field], "what the log says last of %s", field)
	}
}

// SettingsLogged returns what the log says last of each setting of the mount, and checks
// that each change begins with what the one before ended with.
func (m *Mount) SettingsLogged() map[string]string {
	m.T.Helper()
	return m.settingsOf(m.MountEvents())
}

func (m *Mount) settingsOf(events []*evidence.Event) map[string]string {
	m.T.Helper()
	logged := map[string]string{}
	for _, e := range events {
		changed, is := e.Detail.(*evidence.SettingsChanged)
		if !is {
			continue
		}
		for name, value := range changed.New {
			old, had := changed.Old[name] // not where the entry was damaged
			if before, known := logged[name]; known && had {
				require.Equal(m.T, before, old, "event %d: %s", e.Seq, name)
			}
			logged[name] = value
		}
	}
	return logged
}

func int64Of(t require.TestingT, value any) int64 {
	switch n := value.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	}
	require.Fail(t, "a setting is no number")
	return 0
}
