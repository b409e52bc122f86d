// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// written is what an engine has put into storage, by key.
type written struct {
	mu      sync.Mutex
	entries map[string][][]byte
}

// watch notes what is put from now on.
func (w *written) watch(m *enginetest.Mount) {
	m.Storage.Done(func(op, key string) {
		if op == "put" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.entries[key] = append(w.entries[key], m.Disk.Value(key))
		}
	})
}

// everything does what makes the engine write each kind of entry.
func (w *written) everything(t *testing.T) {
	t.Helper()
	m := enginetest.NewMount(t)
	w.watch(m)
	m.Must(enginetest.Update, "config", map[string]any{"org_id": "acme", "rotation_parallelism": 1})
	m.Must(enginetest.Update, "config", map[string]any{"data_key_lease": "30m"})
	m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	m.Must(enginetest.Read, "wrapping_key", nil)
	wit := enginetest.NewOracle(m)
	wit.CreateAES()
	m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": "Acme", "rotation_interval": "120_DAYS"})
	wit.Bulk(40, 3000)
	for i := range 10 { // a page of few items gets no delta, and where items lie is random
		name := fmt.Sprintf("bulk/%d", i)
		wit.Put(name, "puts the page, or its delta")
		wit.Put(name, "its delta")
	}
	wit.Encrypt("x")
	wit.Encrypt("y")
	m.Must(enginetest.Update, enginetest.TenantPath("/dek/config"), map[string]any{"min_decryption_version": 1})

	id, release := enginetest.RotateAndHold(m)
	m.Must(enginetest.Update, enginetest.Action(id, "pause"), nil)
	release()
	enginetest.Advance(time.Second)
	<-m.Engine.Pages.Request()
	m.Must(enginetest.Update, enginetest.Action(id, "resume"), nil)
	enginetest.Advance(2 * time.Second)
	release() // long enough for a note of progress
	enginetest.Advance(time.Minute)
	require.Equal(t, "completed", m.Status(id)["status"])
	m.Imports(make([]byte, 32))
	enginetest.Advance(time.Minute)
	wit.Damage()
	wit.Rotate()
	enginetest.Advance(time.Minute)
	require.Equal(t, "failed", m.Status(wit.Rotations[0])["status"])
	m.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})

	m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), map[string]any{"rotation_paused": true})
	m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(2), nil)
	m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(2), nil)
	m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(3), nil)
	m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(3), map[string]any{"deletion_window": 0})
	enginetest.Advance(8 * enginetest.Day)
	m.Tick()

	m.Storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, "keys/") {
			<-time.After(2 * time.Second) // long enough for a note of progress
		}
	})
	m.Must(enginetest.Update, "kek/rotate", map[string]any{"reason": "leak"})
	enginetest.Advance(time.Minute)
	require.Equal(t, "completed", m.Must(enginetest.Read, "kek", nil)["status"])
	m.Storage.Hook(nil)
	w.watch(m)
	m.Provide(nil)
	m.MoveKEK(enginetest.ProviderName)
	m.MoveKEK("")
	m.MoveTenant(enginetest.TenantID, enginetest.ProviderName)
	m.MoveTenant(enginetest.TenantID, "")
	enginetest.WithoutDate(t, m.Disk)
	m.Must(enginetest.Update, "wrapping_key/rotate", nil)
	m.Tick()
	m.Close()
	for _, key := range m.Disk.Keys("evidence/") { // what the start wrote, too
		w.entries[key] = append(w.entries[key], m.Disk.Value(key))
	}
}

// tableRow is a row of a table whose first column is an entry's key.
var tableRow = regexp.MustCompile("(?m)^\\| `([a-z]+[a-z/_<>.]*)` \\| (JSON|CBOR|binary|empty|[^|]*) \\|")

// placeholders are what stands in keys.
var placeholders = strings.NewReplacer(
	"<hh>", "[0-9a-f]{2}", "<tenant_id>", uuidForm, "<incarnation>", "[0-9a-f]{32}", "<kek_id>", "t?kek-"+uuidForm,
	"<key_id>", "(dek|plc|wk)-"+uuidForm, "<bits>", "[01]{0,64}", "<version>", "[0-9]{10}", "<uuid>", uuidForm,
	"<n>", "[0-9]{16}", "<log>", "[0-9]{6}", "<block>", "[0-9]{12}", "<log_key>", "[0-9]{6}-[0-9]{6}-[0-9]{12}",
	"<chunk>", "[0-9]{16}-[0-9]{16}-[0-9]{16}", "<person>", "person-"+uuidForm, "<hash>", "[0-9a-f]{64}", "<name>", "[a-z0-9-]{1,64}",
	"<index>/<day>", "((rotated|due|aged|upkeep)/20[0-9]{2}-[0-9]{2}-[0-9]{2}|(failed|idle)/all)", ".", `\.`,
)

const uuidForm = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

// TestFormatsAreDocumented finds each entry that the engine writes in the table
// of docs/formats.md, and each field of those in JSON on the page.
func TestFormatsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/formats.md")
	require.NoError(t, err)
	table, rest, found := strings.Cut(string(page), "\n- `<hh>`")
	require.True(t, found)
	w := written{entries: map[string][][]byte{}}
	synctest.Test(t, w.everything)

	seen := map[string]bool{}
	rows := tableRow.FindAllStringSubmatch(table, -1)
	for key, values := range w.entries {
		var row []string
		for _, r := range rows {
			if regexp.MustCompile("^" + placeholders.Replace(r[1]) + "$").MatchString(key) {
				require.Nil(t, row, "%s is in the table twice", key)
				row = r
			}
		}
		require.NotNil(t, row, "%s is not in the table", key)
		seen[row[1]] = true
		for _, v := range values {
			checkValue(t, row, rest, v)
		}
	}
	for _, r := range rows {
		require.True(t, seen[r[1]], "nothing has written %s", r[1])
	}
}

func checkValue(t *testing.T, row []string, page string, value []byte) {
	t.Helper()
	switch row[2] {
	case "empty":
		require.Empty(t, value, row[1])
	case "JSON":
		var decoded any
		require.NoError(t, json.Unmarshal(value, &decoded), row[1])
		for _, name := range fieldNames(decoded) {
			require.Regexp(t, "[`\"]"+name+"[`\"]", page, "a field of %s", row[1])
		}
	default:
		require.False(t, json.Valid(value), "%s is JSON", row[1])
	}
}

// fieldNames are those of all objects in a JSON document.
func fieldNames(document any) (names []string) {
	switch d := document.(type) {
	case map[string]any:
		for name, v := range d {
			names = append(append(names, name), fieldNames(v)...)
		}
	case []any:
		for _, v := range d {
			names = append(names, fieldNames(v)...)
		}
	}
	return names
}
