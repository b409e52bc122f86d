// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"hash"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// wrappingKeys are made once for all tests, since making one takes its time.
var wrappingKeys = [2]func() ([]byte, error){
	sync.OnceValues(keyring.NewWrappingKey), sync.OnceValues(keyring.NewWrappingKey),
}

var wrappingKeysMade atomic.Int64

// nextWrappingKey returns one and the other in turn.
func nextWrappingKey() ([]byte, error) {
	return wrappingKeys[wrappingKeysMade.Add(1)%2]()
}

// publicKey reads the wrapping key as an owner does.
func (m *mount) publicKey() *rsa.PublicKey {
	m.t.Helper()
	return parsePublic(m.t, m.must(read, "wrapping_key", nil)["public_key"].(string))
}

func parsePublic(t *testing.T, text string) *rsa.PublicKey {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	require.Empty(t, rest)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	return public.(*rsa.PublicKey)
}

// ownersKey is a key that an owner has made.
func ownersKey(fill byte) []byte {
	key := sha256.Sum256([]byte{fill})
	return key[:]
}

// wrapped makes an import of a key.
func wrapped(t *testing.T, public *rsa.PublicKey, h hash.Hash, key []byte) string {
	t.Helper()
	ephemeral := make([]byte, 32)
	_, _ = rand.Read(ephemeral)
	raw, err := keyringtest.WrapForImport(public, h, ephemeral, key, nil)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(raw)
}

// imports is the body of a request that imports a key.
func (m *mount) imports(key []byte) map[string]any {
	m.t.Helper()
	return map[string]any{"ciphertext": wrapped(m.t, m.publicKey(), sha256.New(), key)}
}

// onKey requires that every page on disk opens with what is derived from an imported
// key, by an implementation that shares no code with the engine.
func (m *mount) onKey(imported []byte) {
	m.t.Helper()
	rec := newWitness(m).record()
	key := derivedPageKey(imported, rec)
	opens := func(name, label string, headerBytes int) {
		entry := m.disk.Value(name)
		_, err := keyringtest.Open(string(rec.Keys.Active().KeyType), key, entry[headerBytes:], keyringtest.AssociatedData(
			label, rec.ID, rec.Incarnation, path.Base(name)[1:], string(entry[:headerBytes])))
		require.NoError(m.t, err, name)
	}
	require.NotEmpty(m.t, m.pageKeys())
	for _, name := range m.pageKeys() {
		opens(name, "vault-plugin-dek/page/v1", headerLength)
	}
	for _, name := range m.deltaKeys() {
		opens(name, "vault-plugin-dek/delta/v1", headerLength+16)
	}
}

func TestImport(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		w := newWitness(m)
		w.bulk(30, 3000)
		ciphertext := m.encrypted(testTenant, "x")
		body := m.imports(ownersKey(1))
		body["reason"] = "ours"
		r := m.must(update, tenantPath("/dek/import"), body)
		require.Equal(t, []any{"in_progress", "ours", "manual", 1, 2, 30},
			[]any{r["status"], r["reason"], r["trigger"], r["previous_version"], r["new_version"], r["items_to_rotate"].(map[string]int)["secrets"]})
		advance(time.Minute)
		require.Equal(t, "completed", m.status(r["rotation_id"].(string))["status"])
		m.onKey(ownersKey(1))
		w.readsBack()
		v := m.versionList()
		require.NotContains(t, v[0], "imported")
		require.Equal(t, true, v[1]["imported"])
		require.Equal(t, r["new_key_id"], v[1]["key_id"])
		m.opensTo("x", ciphertext)

		// What leaves the engine is sealed by another key, made here.
		sealed := m.encrypted(testTenant, "y")
		rec := w.record()
		raw, err := keyring.DecodeBase64(strings.TrimPrefix(sealed, "dek:v2:"))
		require.NoError(t, err)
		_, err = keyringtest.Open("xaes256-gcm", ownersKey(1), raw, keyringtest.AssociatedData(
			"vault-plugin-dek/ciphertext/v1", rec.ID, rec.Incarnation, rec.Keys.Active().KeyID, ""))
		require.Error(t, err)
		m.opensTo("y", sealed)

		// Rotating without an import makes a random key again.
		m.rotated(nil)
		v = m.versionList()
		require.NotContains(t, v[2], "imported")
		w.readsBack()
	})
}

func TestImportOfAnotherType(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		newWitness(m).bulk(3, 10)
		for i, keyType := range []string{"aes256-gcm", "xaes256-gcm"} {
			key := ownersKey(byte(i + 1))
			m.must(update, tenantPath("/dek/import"), map[string]any{
				"ciphertext": wrapped(t, m.publicKey(), sha1.New(), key), "hash_function": "SHA1", "key_type": keyType,
			})
			advance(time.Minute)
			require.Equal(t, keyType, m.versionList()[i+1]["key_type"])
			m.onKey(key)
		}
	})
}

func TestImportIsRefused(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		const closed = "does not unwrap"
		path := tenantPath("/dek/import")
		blob := base64.StdEncoding.EncodeToString(make([]byte, 552))
		m.refused(400, closed, update, path, map[string]any{"ciphertext": blob}) // before there is a wrapping key
		require.Nil(t, m.disk.Value("import/wrapping_key"))

		m.must(update, "tenants/"+otherTenant, nil)
		public := m.publicKey()
		good := wrapped(t, public, sha256.New(), ownersKey(1))
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
			"a key of 16 bytes":     {path, map[string]any{"ciphertext": wrapped(t, public, sha256.New(), make([]byte, 16))}, 400, "32-byte key"},
			"a key of 64 bytes":     {path, map[string]any{"ciphertext": wrapped(t, public, sha256.New(), make([]byte, 64))}, 400, "32-byte key"},
			"a key of 31 bytes":     {path, map[string]any{"ciphertext": wrapped(t, public, sha256.New(), make([]byte, 31))}, 400, closed},
			"another hash function": {path, map[string]any{"ciphertext": good, "hash_function": "SHA512"}, 400, closed},
			"no hash function":      {path, map[string]any{"ciphertext": good, "hash_function": "MD5"}, 400, "hash_function must be"},
			"its type":              {path, map[string]any{"ciphertext": good, "hash_function": []any{"SHA256"}}, 400, "hash_function"},
			"another mount's":       {path, map[string]any{"ciphertext": wrapped(t, &stranger.PublicKey, sha256.New(), ownersKey(1))}, 400, closed},
			"key type":              {path, map[string]any{"ciphertext": good, "key_type": "aes128-gcm"}, 400, "key_type must be"},
			"reason":                {path, map[string]any{"ciphertext": good, "reason": "a\nb"}, 400, "reason"},
			"idempotency key":       {path, map[string]any{"ciphertext": good, "idempotency_key": strings.Repeat("x", 513)}, 400, "idempotency_key"},
			"no such tenant":        {"tenants/00000000-0000-4000-8000-00000000000f/dek/import", map[string]any{"ciphertext": good}, 404, "tenant"},
			"no tenant's ID":        {"tenants/x/dek/import", map[string]any{"ciphertext": good}, 400, "tenant_id"},
		} {
			t.Run(name, func(t *testing.T) {
				m.t = t
				m.refused(c.status, c.says, update, c.path, c.data)
			})
		}
		m.t = t
		m.must(update, path, map[string]any{"ciphertext": good}) // nothing was wrong with that
		advance(time.Minute)
	})
}

// A key that a tenant has had is not taken again, whatever became of it; another
// tenant, and one that comes after it under its ID, may have it.
func TestImportOfAKnownKey(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		path := tenantPath("/dek/import")
		known := func(version, rotation string) {
			t.Helper()
			for _, keyType := range []string{"", "aes256-gcm"} {
				body := m.imports(ownersKey(1))
				body["key_type"] = keyType
				m.refused(409, "was imported before, as version "+version+", by rotation "+rotation, update, path, body)
			}
			resp, _ := m.call(update, path, m.imports(ownersKey(1)))
			require.Equal(t, map[string]any{"rotation_id": rotation}, resp.Data["data"])
		}
		id := m.must(update, path, m.imports(ownersKey(1)))["rotation_id"].(string)
		advance(time.Minute)
		known("2", id)
		m.rotated(nil)
		require.Equal(t, "destroyed", m.versionList()[1]["state"])
		known("2", id)
		re := openMount(t, m.disk, 0, storagetest.None)
		re.refused(409, id, update, path, m.imports(ownersKey(1)))
		re.close()

		m.must(update, "tenants/"+otherTenant, nil)
		m.must(update, "tenants/"+otherTenant+"/dek/import", m.imports(ownersKey(1)))
		m.must(del, tenantPath(""), map[string]any{"deletion_window": 0})
		m.must(update, tenantPath(""), nil)
		m.must(update, path, m.imports(ownersKey(1)))
		advance(time.Minute)
	})
}

func TestImportIsIdempotent(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		path := tenantPath("/dek/import")
		body := func(fill byte, key string) map[string]any {
			b := m.imports(ownersKey(fill))
			b["idempotency_key"] = key
			return b
		}
		id := m.must(update, path, body(1, "one"))["rotation_id"]
		require.Equal(t, id, m.must(update, path, body(1, "one"))["rotation_id"], "wrapped anew")
		m.refused(409, "another key", update, path, body(2, "one"))
		advance(time.Minute)
		require.Equal(t, id, m.must(update, path, body(1, "one"))["rotation_id"], "when it is over, too")
		require.Len(t, m.versionList(), 2)

		again := m.imports(ownersKey(2))
		first, err := m.callAs("a request's ID", update, path, again)
		require.NoError(t, err)
		second, err := m.callAs("a request's ID", update, path, again)
		require.NoError(t, err)
		require.Equal(t, first.Data["rotation_id"], second.Data["rotation_id"])
		advance(time.Minute)

		rotated := m.must(update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": "rotate"})["rotation_id"]
		advance(time.Minute)
		m.refused(409, rotated.(string), update, path, body(3, "rotate"))
	})
}

// A cancelled import rolls back to the key before, and the imported one is gone.
func TestCancelledImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		slowly(m)
		w := newWitness(m)
		w.create()
		w.bulk(25, 3000)
		<-m.b.Pages.Request()
		id := m.must(update, tenantPath("/dek/import"), m.imports(ownersKey(1)))["rotation_id"].(string)
		m.refused(409, id, update, tenantPath("/dek/import"), m.imports(ownersKey(1)))
		m.refused(409, id, update, tenantPath("/dek/rotate"), nil)
		m.must(update, action(id, "cancel"), nil)
		m.b.Pages.Release()
		advance(time.Minute)
		require.Equal(t, "rolled_back", m.status(id)["status"])
		require.Equal(t, "destroyed", m.versionList()[1]["state"])
		w.readsBack()
		w.atRest()
		m.refused(409, "imported before", update, tenantPath("/dek/import"), m.imports(ownersKey(1)))
	})
}

// The imported key is in no entry but its own, where it is wrapped.
func TestImportedKeyIsStoredWrapped(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		m.must(update, itemPath("a"), secret("a"))
		m.must(update, tenantPath("/dek/import"), m.imports(key))
		advance(time.Minute)
		m.onKey(key)
		for _, name := range m.disk.Keys("") {
			require.NotContains(t, string(m.disk.Value(name)), string(key), name)
		}
		rec := newWitness(m).record()
		require.Len(t, rec.Keys.Active().Fingerprint, 64)
		encoded, err := json.Marshal(rec.Last)
		require.NoError(t, err)
		require.NotContains(t, string(encoded), rec.Keys.Active().Fingerprint)
	})
}
