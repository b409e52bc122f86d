// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestImport(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		w := enginetest.NewOracle(m)
		w.Bulk(30, 3000)
		ciphertext := m.Encrypted(enginetest.TenantID, "x")
		body := m.Imports(enginetest.OwnersKey(1))
		body["reason"] = "ours"
		r := m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), body)
		require.Equal(t, []any{"in_progress", "ours", "manual", 1, 2, 30},
			[]any{r["status"], r["reason"], r["trigger"], r["previous_version"], r["new_version"], r["items_to_rotate"].(map[string]int)["secrets"]})
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", m.Status(r["rotation_id"].(string))["status"])
		m.OnKey(enginetest.OwnersKey(1))
		w.ReadsBack()
		v := m.VersionList()
		require.NotContains(t, v[0], "imported")
		require.Equal(t, true, v[1]["imported"])
		require.Equal(t, r["new_key_id"], v[1]["key_id"])
		m.OpensTo("x", ciphertext)

		// What leaves the engine is sealed by another key, made here.
		sealed := m.Encrypted(enginetest.TenantID, "y")
		rec := w.Record()
		raw, err := keyring.DecodeBase64(strings.TrimPrefix(sealed, "dek:v2:"))
		require.NoError(t, err)
		_, err = keyringtest.Open("xaes256-gcm", enginetest.OwnersKey(1), raw, keyringtest.AssociatedData(
			"vault-plugin-dek/ciphertext/v1", rec.ID, rec.Incarnation, rec.Keys.Active().KeyID, ""))
		require.Error(t, err)
		m.OpensTo("y", sealed)

		// Rotating without an import makes a random key again.
		m.Rotated(nil)
		v = m.VersionList()
		require.NotContains(t, v[2], "imported")
		w.ReadsBack()
	})
}

func TestImportOfAnotherType(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		enginetest.NewOracle(m).Bulk(3, 10)
		for i, keyType := range []string{"aes256-gcm", "xaes256-gcm"} {
			key := enginetest.OwnersKey(byte(i + 1))
			m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), map[string]any{
				"ciphertext": enginetest.Wrapped(t, m.PublicKey(), sha1.New(), key), "hash_function": "SHA1", "key_type": keyType,
			})
			enginetest.Advance(time.Minute)
			require.Equal(t, keyType, m.VersionList()[i+1]["key_type"])
			m.OnKey(key)
		}
	})
}

func TestImportIsRefused(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		const closed = "does not unwrap"
		path := enginetest.TenantPath("/dek/import")
		blob := base64.StdEncoding.EncodeToString(make([]byte, 552))
		m.Refused(400, closed, enginetest.Update, path, map[string]any{"ciphertext": blob}) // before there is a wrapping key
		require.Nil(t, m.Disk.Value("import/wrapping_key"))

		m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
		public := m.PublicKey()
		good := enginetest.Wrapped(t, public, sha256.New(), enginetest.OwnersKey(1))
		stranger, err := rsa.GenerateKey(rand.Reader, 4096)
		require.NoError(t, err)
		for name, c := range map[string]struct {
			path   string
			data   map[string]any
			status int
			says   string
		}{
			"nothing":               {path, nil, 400, "ciphertext is missing"},
			"null":                  {path, map[string]any{"ciphertext": nil}, 400, "ciphertext is missing"},
			"a number":              {path, map[string]any{"ciphertext": 1}, 400, "ciphertext must be a string"},
			"a list":                {path, map[string]any{"ciphertext": []any{good}}, 400, "ciphertext must be"},
			"empty":                 {path, map[string]any{"ciphertext": ""}, 400, "552 bytes"},
			"rubbish":               {path, map[string]any{"ciphertext": strings.Repeat("!", len(good))}, 400, "base64"},
			"1 MiB":                 {path, map[string]any{"ciphertext": strings.Repeat("A", 1<<20)}, 400, "552 bytes"},
			"truncated":             {path, map[string]any{"ciphertext": good[:len(good)-4]}, 400, "552 bytes"},
			"extended":              {path, map[string]any{"ciphertext": good + "AAAA"}, 400, "552 bytes"},
			"line breaks":           {path, map[string]any{"ciphertext": good[:76] + "\n" + good[76:]}, 400, "line breaks"},
			"a key of 16 bytes":     {path, map[string]any{"ciphertext": enginetest.Wrapped(t, public, sha256.New(), make([]byte, 16))}, 400, "32-byte key"},
			"a key of 64 bytes":     {path, map[string]any{"ciphertext": enginetest.Wrapped(t, public, sha256.New(), make([]byte, 64))}, 400, "32-byte key"},
			"a key of 31 bytes":     {path, map[string]any{"ciphertext": enginetest.Wrapped(t, public, sha256.New(), make([]byte, 31))}, 400, closed},
			"another hash function": {path, map[string]any{"ciphertext": good, "hash_function": "SHA512"}, 400, closed},
			"no hash function":      {path, map[string]any{"ciphertext": good, "hash_function": "MD5"}, 400, "hash_function must be"},
			"its type":              {path, map[string]any{"ciphertext": good, "hash_function": []any{"SHA256"}}, 400, "hash_function"},
			"another mount's":       {path, map[string]any{"ciphertext": enginetest.Wrapped(t, &stranger.PublicKey, sha256.New(), enginetest.OwnersKey(1))}, 400, closed},
			"key type":              {path, map[string]any{"ciphertext": good, "key_type": "aes128-gcm"}, 400, "key_type must be"},
			"reason":                {path, map[string]any{"ciphertext": good, "reason": "a\nb"}, 400, "reason"},
			"idempotency key":       {path, map[string]any{"ciphertext": good, "idempotency_key": strings.Repeat("x", 513)}, 400, "idempotency_key"},
			"no such tenant":        {"tenants/00000000-0000-4000-8000-00000000000f/dek/import", map[string]any{"ciphertext": good}, 404, "tenant"},
			"no tenant's ID":        {"tenants/x/dek/import", map[string]any{"ciphertext": good}, 400, "tenant_id"},
		} {
			t.Run(name, func(t *testing.T) {
				m.T = t
				m.Refused(c.status, c.says, enginetest.Update, c.path, c.data)
			})
		}
		m.T = t
		m.Must(enginetest.Update, path, map[string]any{"ciphertext": good}) // nothing was wrong with that
		enginetest.Advance(time.Minute)
	})
}

// A key that a tenant has had is not taken again, whatever became of it; another
// tenant, and one that comes after it under its ID, may have it.
func TestImportOfAKnownKey(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		path := enginetest.TenantPath("/dek/import")
		known := func(version, rotation string) {
			t.Helper()
			for _, keyType := range []string{"", "aes256-gcm"} {
				body := m.Imports(enginetest.OwnersKey(1))
				body["key_type"] = keyType
				m.Refused(409, "was imported before, as version "+version+", by rotation "+rotation, enginetest.Update, path, body)
			}
			resp, _ := m.Call(enginetest.Update, path, m.Imports(enginetest.OwnersKey(1)))
			require.Equal(t, map[string]any{"rotation_id": rotation}, resp.Data["data"])
		}
		id := m.Must(enginetest.Update, path, m.Imports(enginetest.OwnersKey(1)))["rotation_id"].(string)
		enginetest.Advance(time.Minute)
		known("2", id)
		m.Rotated(nil)
		require.Equal(t, "destroyed", m.VersionList()[1]["state"])
		known("2", id)
		re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		re.Refused(409, id, enginetest.Update, path, m.Imports(enginetest.OwnersKey(1)))
		re.Close()

		m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant+"/dek/import", m.Imports(enginetest.OwnersKey(1)))
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, path, m.Imports(enginetest.OwnersKey(1)))
		enginetest.Advance(time.Minute)
	})
}

func TestImportIsIdempotent(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		path := enginetest.TenantPath("/dek/import")
		body := func(fill byte, key string) map[string]any {
			b := m.Imports(enginetest.OwnersKey(fill))
			b["idempotency_key"] = key
			return b
		}
		id := m.Must(enginetest.Update, path, body(1, "one"))["rotation_id"]
		require.Equal(t, id, m.Must(enginetest.Update, path, body(1, "one"))["rotation_id"], "wrapped anew")
		resp, err := m.Call(enginetest.Update, path, body(2, "one"))
		require.Equal(t, 409, enginetest.Code(resp, err), "while it may be under way")
		require.ErrorContains(t, err, "another key")
		enginetest.Advance(time.Minute) // the rotation deletes its intent last, after it is shown as completed
		m.Refused(409, "another key", enginetest.Update, path, body(2, "one"))
		require.Equal(t, id, m.Must(enginetest.Update, path, body(1, "one"))["rotation_id"], "when it is over, too")
		require.Len(t, m.VersionList(), 2)

		again := m.Imports(enginetest.OwnersKey(2))
		first, err := m.CallAs("a request's ID", enginetest.Update, path, again)
		require.NoError(t, err)
		second, err := m.CallAs("a request's ID", enginetest.Update, path, again)
		require.NoError(t, err)
		require.Equal(t, first.Data["rotation_id"], second.Data["rotation_id"])
		enginetest.Advance(time.Minute)

		rotated := m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": "rotate"})["rotation_id"]
		enginetest.Advance(time.Minute)
		m.Refused(409, rotated.(string), enginetest.Update, path, body(3, "rotate"))
	})
}

// A cancelled import rolls back to the key before, and the imported one is gone.
func TestCancelledImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		enginetest.Slowly(m)
		w := enginetest.NewOracle(m)
		w.Create()
		w.Bulk(25, 3000)
		<-m.Engine.Pages.Request()
		id := m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports(enginetest.OwnersKey(1)))["rotation_id"].(string)
		m.Refused(409, id, enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports(enginetest.OwnersKey(1)))
		m.Refused(409, id, enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		m.Must(enginetest.Update, enginetest.Action(id, "cancel"), nil)
		m.Engine.Pages.Release()
		enginetest.Advance(time.Minute)
		require.Equal(t, "rolled_back", m.Status(id)["status"])
		require.Equal(t, "destroyed", m.VersionList()[1]["state"])
		w.ReadsBack()
		w.AtRest()
		m.Refused(409, "imported before", enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports(enginetest.OwnersKey(1)))
	})
}

// The imported key is in no entry but its own, where it is wrapped.
func TestImportedKeyIsStoredWrapped(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("a"))
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports(key))
		enginetest.Advance(time.Minute)
		m.OnKey(key)
		for _, name := range m.Disk.Keys("") {
			require.NotContains(t, string(m.Disk.Value(name)), string(key), name)
		}
		rec := enginetest.NewOracle(m).Record()
		require.Len(t, rec.Keys.Active().Fingerprint, 64)
		encoded, err := json.Marshal(rec.Last)
		require.NoError(t, err)
		require.NotContains(t, string(encoded), rec.Keys.Active().Fingerprint)
	})
}
