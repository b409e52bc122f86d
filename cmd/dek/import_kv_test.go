// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func someSecrets() map[string]kvSecret {
	return map[string]kvSecret{
		"app/db":        {data: `{"password":"hunter2","port":5432,"ratio":1.50,"on":true,"none":null,"list":[1,{"a":"b"}]}`, custom: map[string]string{"owner": "team"}},
		"app/db/main":   {data: `{"password":"hunter2"}`},
		"app/db-2":      {data: `{}`},
		"app/old":       {},
		"app/with 50%?": {data: `{"password":"hunter2"}`},
		"app/x/y/z":     {data: `{"deep":"hunter2"}`},
		"other/a":       {data: `{"a":"b"}`},
		"top":           {data: `{"a":"b"}`},
	}
}

// All that is below a folder comes over, with custom metadata; a second run finds it
// there; the source stays as it is.
func TestImportKV(t *testing.T) {
	f := newKVFake(t)
	f.secrets = someSecrets()
	before := []string{"db", "db-2", "db/main", "x/y/z"}

	code, out, errs := f.run("secret/app", "--dry-run")
	assert.Equal(t, exitDone, code, errs)
	assert.Contains(t, out, "5 to be imported, 0 overwritten, 0 there already, 1 deleted at the source, 0 refused, of 6")
	assert.Empty(t, f.names())

	code, out, errs = f.run("secret/app")
	assert.Equal(t, exitRefused, code, errs)
	assert.Contains(t, out, "4 imported, 0 overwritten, 0 there already, 1 deleted at the source, 1 refused, of 6")
	assert.Contains(t, errs, "secret/app/with 50%?: name must be made of other characters")
	assert.Equal(t, before, f.names())
	assert.Equal(t, map[string]string{"owner": "team"}, f.items["db"]["metadata"])
	assert.JSONEq(t, f.secrets["app/db"].data, fmt.Sprintf("%s", f.items["db"]["data"]))

	code, out, errs = f.run("secret/app/", "-json", "--parallel", "1", "--batch", "2")
	assert.Equal(t, exitRefused, code, errs)
	assert.Contains(t, out, `"event":"refused","key":"secret/app/with 50%?"}`)
	assert.Contains(t, out, `{"event":"done","scanned":6,"imported":0,"overwritten":0,"current":4,"deleted":1,"refused":1,"after":"app/x/y/z"}`)
	for _, item := range f.items {
		assert.Equal(t, 1, item["revision"])
	}
}

// What MOUNT/PATH stands for.
func TestImportKVPath(t *testing.T) {
	for name, test := range map[string]struct {
		version, source string
		want            []string
	}{
		"the mount":              {"2", "secret", []string{"app/db", "app/db-2", "app/db/main", "app/x/y/z", "other/a", "top"}},
		"version 1":              {"1", "/secret/", []string{"app/db", "app/db-2", "app/db/main", "app/x/y/z", "other/a", "top"}},
		"a secret":               {"2", "secret/top", []string{"top"}},
		"a secret and a folder":  {"2", "secret/app/db", []string{"db", "main"}},
		"the folder alone":       {"2", "secret/app/db/", []string{"main"}},
		"a folder in version 1":  {"1", "secret/app/x", []string{"y/z"}},
		"a secret in version 1":  {"1", "secret/app/x/y/z", []string{"z"}},
		"nothing":                {"2", "secret/nothing", []string{}},
		"nothing below a secret": {"2", "secret/top/", []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newKVFake(t)
			f.version, f.secrets = test.version, someSecrets()
			delete(f.secrets, "app/with 50%?")
			delete(f.secrets, "app/old")
			code, _, errs := f.run(test.source)
			want := exitDone
			if len(test.want) == 0 {
				want = exitFailed
				assert.Contains(t, errs, errNothing.Error())
			}
			assert.Equal(t, want, code, errs)
			assert.Subset(t, f.names(), test.want)
			assert.Len(t, f.names(), len(test.want))
		})
	}
}

// What is there with another content is refused, or with --overwrite replaced.
func TestImportKVOverwrites(t *testing.T) {
	f := newKVFake(t)
	f.secrets = map[string]kvSecret{"app/a": {data: `{"v":1}`}, "app/b": {data: `{"v":1}`, custom: map[string]string{"k": "v"}}}
	f.items["a"] = map[string]any{"data": raw(`{"v":2}`), "revision": 7}
	f.items["b"] = map[string]any{"data": raw(`{"v":1.0}`), "metadata": map[string]string{"k": "old"}, "revision": 1}

	code, out, errs := f.run("secret/app")
	assert.Equal(t, exitRefused, code)
	assert.Contains(t, out, "0 imported, 0 overwritten, 0 there already, 0 deleted at the source, 2 refused, of 2")
	assert.Contains(t, errs, "secret/app/a: "+errTaken.Error())
	code, out, _ = f.run("secret/app", "--overwrite", "--dry-run")
	assert.Equal(t, exitDone, code)
	assert.Contains(t, out, "2 overwritten")
	assert.Equal(t, 7, f.items["a"]["revision"])
	code, out, _ = f.run("secret/app", "--overwrite")
	assert.Equal(t, exitDone, code)
	assert.Contains(t, out, "2 overwritten")
	assert.Equal(t, raw(`{"v":1}`), f.items["a"]["data"])
	assert.Equal(t, 8, f.items["a"]["revision"])
	assert.Equal(t, map[string]string{"k": "v"}, f.items["b"]["metadata"])

	f.tamper = true
	f.secrets["app/a"] = kvSecret{data: `{"v":3}`}
	code, _, errs = f.run("secret/app", "--overwrite")
	assert.Equal(t, exitRefused, code)
	assert.Contains(t, errs, errDifferent.Error())
}

// An item that does not read back as it was written is named.
func TestImportKVComparesWhatItReadsBack(t *testing.T) {
	f := newKVFake(t)
	f.secrets, f.tamper = map[string]kvSecret{"app/a": {data: `{"a":"hunter2"}`}}, true
	code, _, errs := f.run("secret/app")
	assert.Equal(t, exitRefused, code)
	assert.Contains(t, errs, "secret/app/a: "+errDifferent.Error())
}

// The secret at PATH keeps its name if one below it would get the same.
func TestImportKVTwins(t *testing.T) {
	f := newKVFake(t)
	f.secrets = map[string]kvSecret{"app": {data: `{"a":1}`}, "app/app": {data: `{"a":2}`}, "app/b": {data: `{"a":3}`}}
	code, _, errs := f.run("secret/app", "--overwrite")
	assert.Equal(t, exitRefused, code)
	assert.Contains(t, errs, "secret/app/app: "+errTwin.Error())
	assert.Equal(t, []string{"app", "b"}, f.names())
	assert.Equal(t, raw(`{"a":1}`), f.items["app"]["data"])
}

// A request that is refused as a whole is taken apart until what is refused is alone.
func TestImportKVHalves(t *testing.T) {
	f := newKVFake(t)
	f.bulk = 3
	for i := range 20 {
		f.secrets[fmt.Sprintf("app/%02d", i)] = kvSecret{data: `{"a":1}`}
	}
	code, out, errs := f.run("secret/app")
	assert.Equal(t, exitDone, code, errs)
	assert.Contains(t, out, "20 imported")
	assert.Len(t, f.items, 20)
}

// Secrets are read over connections that stay open, and while the source is down that is
// said once a second, not by each of them.
func TestImportKVManyAtOnce(t *testing.T) {
	f := newKVFake(t)
	for i := range 400 {
		f.secrets[fmt.Sprintf("app/%03d", i)] = kvSecret{data: `{"a":1}`}
	}
	t.Setenv("VAULT_MAX_RETRIES", "0") // Vault's client would wait by itself, first
	down := 0
	var first, again time.Time // when the first was refused, and when the last one that was refused came again
	refused := map[string]bool{}
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if refused[r.URL.Path] {
			again = time.Now()
		}
		if !strings.HasPrefix(r.URL.Path, "/v1/secret/data/app/") || down == 16 {
			return false
		}
		if down++; down == 1 {
			first = time.Now()
		}
		refused[r.URL.Path] = true
		f.refuse(w, http.StatusTooManyRequests, "too much")
		return true
	}
	code, out, errs := f.run("secret/app")
	assert.Equal(t, exitDone, code, errs)
	assert.Contains(t, out, "400 imported")
	assert.Less(t, f.connections.Load(), int64(400/4), "a transport may dial some more than are in use at once")
	// Each waits for a second before it comes again. On a busy machine they do not all begin to
	// within one.
	seconds := int(again.Add(-time.Second).Sub(first) / time.Second)
	said := strings.Count(errs, "429: too much; waiting")
	assert.Positive(t, said)
	assert.LessOrEqual(t, said, 1+seconds, errs)
}

// A secret and a folder that a policy keeps shut are named; a token that is no longer
// known stops the command, and the next goes on behind what is done.
func TestImportKVGoesOn(t *testing.T) {
	f := newKVFake(t)
	for i := range 9 {
		f.secrets[fmt.Sprintf("app/%d", i)] = kvSecret{data: `{"a":1}`, refused: i == 3}
	}
	f.secrets["app/shut/x"] = kvSecret{data: `{"a":1}`}
	unknown := true
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		shut := r.URL.Path == "/v1/secret/metadata/app/shut"
		if gone := unknown && (r.URL.Path == "/v1/secret/data/app/6" || strings.HasSuffix(r.URL.Path, "lookup-self") && len(f.items) > 3); shut || gone {
			f.refuse(w, http.StatusForbidden, "permission denied")
			return true
		}
		return false
	}
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	flags := []string{"--batch", "2", "--parallel", "1", "--checkpoint", checkpoint}
	code, _, errs := f.run("secret/app", flags...)
	require.Equal(t, exitFailed, code, errs)
	assert.Contains(t, errs, "reading secret/app/6 at the source: 403: permission denied")
	assert.Equal(t, []string{"0", "1", "2", "4", "5"}, f.names())

	unknown, f.reads = false, nil
	code, out, errs := f.run("secret/app", flags...)
	require.Equal(t, exitRefused, code, errs)
	assert.Equal(t, []string{"app", "app/6", "app/7", "app/8"}, f.reads)
	assert.Contains(t, errs, "secret/app/shut/: reading secret/app/shut/ at the source: 403: permission denied")
	assert.Contains(t, out, "8 imported, 0 overwritten, 0 there already, 0 deleted at the source, 2 refused, of 10")
	assert.NoFileExists(t, checkpoint)

	require.NoError(t, os.WriteFile(checkpoint, []byte(`{"job":"another"}`), 0o600))
	code, _, _ = f.run("secret/app", flags...)
	assert.Equal(t, exitUsage, code)
}

// A write whose answer was lost is compared, and not taken for another's.
func TestImportKVOutlastsALostAnswer(t *testing.T) {
	f := newKVFake(t)
	f.secrets = map[string]kvSecret{"app/a": {data: `{"a":1}`}}
	lost := false
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if lost || r.URL.Path != fakeTenant {
			return false
		}
		lost = true
		f.write(&blind{}, r)
		f.refuse(w, http.StatusBadGateway)
		return true
	}
	code, out, errs := f.run("secret/app")
	assert.Equal(t, exitDone, code, errs)
	assert.Contains(t, out, "0 imported, 0 overwritten, 1 there already")
	assert.Equal(t, 1, f.items["a"]["revision"])
}

// raw is JSON as it is.
func raw(text string) json.RawMessage { return json.RawMessage(text) }

// blind takes an answer that nobody gets.
type blind struct{ http.ResponseWriter }

func (*blind) Write(p []byte) (int, error) { return len(p), nil }
