// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestRewrapTellsWhatHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		old := m.Encrypted(enginetest.TenantID, "old")
		m.Rotated(nil)
		current := m.Encrypted(enginetest.TenantID, "current")
		for _, c := range []struct {
			ciphertext, plaintext string
			onlyIfOlder           any
			changed               bool
		}{
			{old, "old", nil, true},
			{old, "old", false, true},
			{old, "old", true, true},
			{old, "old", "true", true},
			{current, "current", nil, true},
			{current, "current", false, true},
			{current, "current", true, false},
			{current, "current", "true", false},
		} {
			answer := m.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": c.ciphertext, "only_if_older": c.onlyIfOlder})
			require.Equal(t, c.changed, answer["changed"])
			require.Equal(t, c.changed, answer["ciphertext"] != c.ciphertext)
			require.Equal(t, 2, answer["key_version"])
			m.OpensTo(c.plaintext, answer["ciphertext"].(string))
		}
		for _, value := range []any{"x", 1, []any{true}} {
			m.Refused(400, "only_if_older", enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": old, "only_if_older": value})
		}
	})
}

// A ciphertext that stays as it is has been opened: what does not open is refused
// whether or not it is current.
func TestRewrapOnlyIfOlderRefusesWhatDoesNotOpen(t *testing.T) {
	m := enginetest.WithTenant(t)
	good := m.Encrypted(enginetest.TenantID, "x", "ad")
	m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": good, "only_if_older": true})
	m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": "dek:v1:AAAA", "only_if_older": true})
}

// After a cancel what is newer than the current version is not current either.
func TestRewrapOnlyIfOlderAfterACancel(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, rotation string) {
		newer := w.Encrypted(enginetest.TenantID, "x")
		w.Must(enginetest.Update, enginetest.Action(rotation, "cancel"), nil)
		enginetest.Advance(time.Minute)
		answer := w.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": newer, "only_if_older": true})
		require.Equal(t, true, answer["changed"])
		require.Equal(t, 1, answer["key_version"])
		w.OpensTo("x", answer["ciphertext"].(string))
	})
}

// In a batch the field of the request holds, unless an entry says otherwise.
func TestRewrapOnlyIfOlderInABatch(t *testing.T) {
	m := enginetest.WithTenant(t)
	good := m.Encrypted(enginetest.TenantID, "x")
	in := []any{
		map[string]any{"ciphertext": good},
		map[string]any{"ciphertext": good, "only_if_older": true},
		map[string]any{"ciphertext": good, "only_if_older": false},
		map[string]any{"ciphertext": good, "only_if_older": "perhaps"},
	}
	for all, changed := range map[bool][]any{false: {true, false, true, nil}, true: {false, false, true, nil}} {
		status, results, _ := httpAnswer(m, "/rewrap", map[string]any{"batch_input": in, "only_if_older": all})
		require.Equal(t, 400, status)
		for i, r := range results {
			require.Equal(t, changed[i], r["changed"])
			require.Equal(t, changed[i] == false, r["ciphertext"] == good)
		}
		require.Contains(t, results[3]["error"], "only_if_older must be true or false")
	}
	_, results, _ := httpAnswer(m, "/encrypt", map[string]any{"batch_input": []any{map[string]any{"plaintext": "", "only_if_older": "perhaps"}}})
	require.NotContains(t, results[0], "changed", "only rewrap has it")
	require.NotContains(t, results[0], "error")
}
