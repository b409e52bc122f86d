// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// mountKV mounts KV of a version, and returns what writes a secret there.
func mountKV(t *testing.T, s *devstack.Stack, version string) (mount string, put func(name string, data, custom map[string]any)) {
	t.Helper()
	mount = "source-" + uuid.NewString()[:8]
	write(t, s, "sys/mounts/"+mount, map[string]any{"type": "kv", "options": map[string]any{"version": version}})
	t.Cleanup(func() { assert.NoError(t, s.Client().Sys().Unmount(mount)) })
	if version == "1" {
		return mount, func(name string, data, _ map[string]any) { write(t, s, mount+"/"+name, data) }
	}
	require.Eventually(t, func() bool { // it says that it is being upgraded, first
		return callRoot(t, s, http.MethodPost, mount+"/config", map[string]any{"max_versions": 5}).Status == http.StatusNoContent
	}, goneLimit, rotationTick)
	return mount, func(name string, data, custom map[string]any) {
		name = (&url.URL{Path: name}).EscapedPath()
		write(t, s, mount+"/data/"+name, map[string]any{"data": data})
		if custom != nil {
			write(t, s, mount+"/metadata/"+name, map[string]any{"custom_metadata": custom})
		}
	}
}

// The secrets of KV come into a tenant with their custom metadata, each as its current
// version. What the engine does not take is named, and what is deleted stays behind. Of
// what is told nothing is a value.
func TestDekImportKV(t *testing.T) {
	s := shared(t)
	dek := buildDek(t)
	tenant := asRoot(t, s, applicationTenant(t, s))
	mount, put := mountKV(t, s, "2")
	const value = "imported-value-3f1c"
	put("app/db", map[string]any{"password": "former"}, nil)
	full := map[string]any{
		"password": value, "port": 5432, "ratio": 1.5, "on": true, "none": nil, "text": "ä\u2028\x00\"",
		"list": []any{1, map[string]any{"a": []any{}}},
	}
	put("app/db", full, map[string]any{"owner": "team"})
	put("app/db/main", map[string]any{"password": value}, nil)
	put("app/x/y/z@1", map[string]any{}, nil)
	put("app/with a blank%2f?", map[string]any{"password": value}, nil)
	put("app/large", map[string]any{"password": strings.Repeat(value, 20_000)}, nil)
	put("app/number", map[string]any{"n": json.Number("9007199254740993")}, nil)
	put("app/old", map[string]any{"password": value}, nil)
	write(t, s, mount+"/delete/app/old", map[string]any{"versions": []int{1}})

	run := func(args ...string) (int, string, string) {
		code, out, errs := dek.run(s, s.RootToken(), append([]string{"import", "kv2", mount + "/app", tenant.ID(), "credentials"}, args...)...)
		assert.NotContains(t, out+errs, value)
		return code, out, errs
	}
	code, out, errs := run("--dry-run")
	assert.Equal(t, 3, code, errs) // the engine says already which name it does not take
	assert.Contains(t, out, "5 to be imported, 0 overwritten, 0 there already, 1 deleted at the source, 1 refused, of 7")
	code, out, errs = run()
	assert.Equal(t, 3, code, errs)
	assert.Contains(t, out, "3 imported, 0 overwritten, 0 there already, 1 deleted at the source, 3 refused, of 7")
	for _, refused := range []string{"app/with a blank%2f?: ", "app/large: ", "app/number: "} {
		assert.Contains(t, errs, mount+"/"+refused)
	}
	names, err := tenant.Items(t.Context(), client.Credentials, client.Page{})
	require.NoError(t, err)
	assert.Equal(t, []string{"db", "db/main", "x/y/z@1"}, names)
	item, err := tenant.ReadItem(t.Context(), client.Credentials, "db")
	require.NoError(t, err)
	got, err := json.Marshal(item.Data)
	require.NoError(t, err)
	want, err := json.Marshal(full)
	require.NoError(t, err)
	assert.JSONEq(t, string(want), string(got))
	assert.Equal(t, map[string]string{"owner": "team"}, item.Metadata)

	code, out, _ = run("-json")
	assert.Equal(t, 3, code)
	assert.Contains(t, out, `"event":"done","scanned":7,"imported":0,"overwritten":0,"current":3,"deleted":1,"refused":3`)
	put("app/db", map[string]any{"password": "new"}, nil)
	_, out, _ = run("--overwrite")
	assert.Contains(t, out, "0 imported, 1 overwritten, 2 there already")
	item, err = tenant.ReadItem(t.Context(), client.Credentials, "db")
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"password": "new"}, item.Data)
	assert.Equal(t, map[string]string{"owner": "team"}, item.Metadata)
	assert.Equal(t, 1.0, succeeded(t, callRoot(t, s, http.MethodGet, mount+"/metadata/app/db/main", nil))["current_version"], "the source stays as it is")

	old, putOld := mountKV(t, s, "1")
	putOld("a/b", map[string]any{"password": value}, nil)
	code, out, errs = dek.run(s, s.RootToken(), "import", "kv2", old, tenant.ID(), "apiKeys")
	assert.Equal(t, 0, code, errs)
	assert.Contains(t, out, "1 imported")
}

// The command is killed with SIGKILL, and the next goes on where it was: nothing is lost,
// and nothing is written twice. A token with the rights of an application and to read the
// source is enough.
func TestDekImportKVKilled(t *testing.T) {
	s := shared(t)
	dek := buildDek(t)
	tenant := asRoot(t, s, applicationTenant(t, s))
	mount, put := mountKV(t, s, "1")
	const secrets = 300
	for i := range secrets {
		put(fmt.Sprintf("f%d/%d", i%7, i), map[string]any{"n": i}, nil)
	}
	write(t, s, "sys/policies/acl/"+mount, map[string]any{"policy": `
path "` + mount + `/*" { capabilities = ["read", "list"] }
path "dek/tenants/` + tenant.ID() + `/items" { capabilities = ["update"] }
path "dek/tenants/` + tenant.ID() + `/items/read" { capabilities = ["update"] }`})
	made, err := s.Client().Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{mount}, NoParent: true})
	require.NoError(t, err)
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	args := []string{"import", "kv2", mount, tenant.ID(), "secrets", "--batch", "10", "--checkpoint", checkpoint, "-json"}

	// So slowly that most is still to come when a busy machine gets to see the checkpoint.
	cmd := dek.command(s, made.Auth.ClientToken, append(args, "--rate", "20")...)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		_, err := os.Stat(checkpoint)
		return err == nil
	}, time.Minute, rotationTick)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	var before struct{ Progress struct{ Scanned int } }
	text, err := os.ReadFile(checkpoint)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &before))
	require.Positive(t, before.Progress.Scanned)
	require.Less(t, before.Progress.Scanned, secrets)

	code, out, errs := dek.run(s, made.Auth.ClientToken, args...)
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, `"scanned":300`)
	assert.NoFileExists(t, checkpoint)
	wanted := make([]client.ItemName, secrets)
	for i := range wanted {
		wanted[i] = client.ItemName{Kind: client.Secrets, Name: fmt.Sprintf("f%d/%d", i%7, i)}
	}
	items, err := tenant.ReadItems(t.Context(), wanted)
	require.NoError(t, err)
	for i, item := range items {
		assert.Equal(t, map[string]any{"n": json.Number(fmt.Sprint(i))}, item.Data)
		assert.Equal(t, 1, item.Revision)
	}
}
