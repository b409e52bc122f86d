// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// wrappingRecord reads which wrapping keys there are from disk.
func wrappingRecord(m *mount) *keystore.WrappingRecord {
	m.t.Helper()
	r := new(keystore.WrappingRecord)
	require.NoError(m.t, json.Unmarshal(m.disk.Value("import/current"), r))
	return r
}

// currentWrappingKey is the entry of the current wrapping key.
func currentWrappingKey(m *mount) string { return "import/keys/" + wrappingRecord(m).KeyID }

// importUnder is the body of an import under a public key.
func (m *mount) importUnder(public *rsa.PublicKey, key []byte) map[string]any {
	m.t.Helper()
	return map[string]any{"ciphertext": wrapped(m.t, public, sha256.New(), key)}
}

func TestWrappingKeyIsRotated(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		path := tenantPath("/dek/import")
		first := m.publicKey()
		require.NotContains(t, m.must(read, "wrapping_key", nil), "former_until")
		rotatedAt := time.Now()
		answer := m.must(update, "wrapping_key/rotate", nil)
		second := parsePublic(t, answer["public_key"].(string))
		require.NotEqual(t, first, second)
		require.Equal(t, rotatedAt.Add(24*time.Hour).UTC().Format(time.RFC3339Nano), answer["former_until"])
		require.Equal(t, second, m.publicKey())

		m.must(update, path, m.importUnder(first, ownersKey(1)))
		advance(time.Minute)
		m.must(update, path, m.importUnder(second, ownersKey(2)))
		advance(24*time.Hour - 2*time.Minute)
		m.tick()
		require.Len(t, m.disk.Keys("import/keys/"), 2)
		m.refused(400, "does not unwrap", update, path, m.importUnder(first, ownersKey(3))) // 24 h have passed
		m.tick()
		require.Equal(t, []string{currentWrappingKey(m)}, m.disk.Keys("import/keys/"))
		require.Empty(t, wrappingRecord(m).Former)
		m.must(update, path, m.importUnder(second, ownersKey(3)))
		advance(time.Minute)
	})
}

// The first rotation makes the key if there is none. A repeated request makes no other.
func TestRepeatedRotationOfTheWrappingKey(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		first, err := m.callAs("a request's ID", update, "wrapping_key/rotate", nil)
		require.NoError(t, err)
		require.Nil(t, first.Data["former_until"])
		again, err := m.callAs("a request's ID", update, "wrapping_key/rotate", nil)
		require.NoError(t, err)
		require.Equal(t, first.Data["public_key"], again.Data["public_key"])
		require.Len(t, m.disk.Keys("import/keys/"), 1)
	})
}

// Former keys are bounded: each costs an import that does not unwrap its time.
func TestTooManyFormerWrappingKeys(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		m.publicKey()
		for range 8 {
			m.must(update, "wrapping_key/rotate", nil)
		}
		m.refused(409, "wait until the oldest is destroyed", update, "wrapping_key/rotate", nil)
		advance(24 * time.Hour)
		m.tick()
		require.Len(t, m.disk.Keys("import/keys/"), 1)
		m.must(update, "wrapping_key/rotate", nil)
	})
}

// A key that was made before wrapping keys had IDs goes on, and goes with a rotation.
func TestWrappingKeyFromBefore(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		der, err := nextWrappingKey()
		require.NoError(t, err)
		m.disk.Set("import/wrapping_key", slices.Clone(der))
		private, err := x509.ParsePKCS8PrivateKey(der)
		require.NoError(t, err)
		first := &private.(*rsa.PrivateKey).PublicKey
		require.Equal(t, first, m.publicKey())
		require.Nil(t, m.disk.Value("import/current"), "reading writes nothing")
		m.must(update, tenantPath("/dek/import"), m.importUnder(first, ownersKey(1)))
		advance(time.Minute)

		m.must(update, "wrapping_key/rotate", nil)
		m.must(update, tenantPath("/dek/import"), m.importUnder(first, ownersKey(2)))
		re := openMount(t, m.disk, 0, storagetest.None)
		advance(24 * time.Hour)
		re.tick()
		require.Nil(t, m.disk.Value("import/wrapping_key"))
		require.NotEqual(t, first, re.publicKey())
		re.close()
	})
}

// rotateWrappingKey rotates the wrapping key, and imports under what was answered and
// under the key before.
func (w *witness) rotateWrappingKey(former *rsa.PublicKey, fill byte) {
	w.t.Helper()
	w.do(update, "wrapping_key/rotate", nil, func(w *witness, resp *logical.Response) {
		w.importUnder(parsePublic(w.t, resp.Data["public_key"].(string)), fill)
	})
	advance(time.Second)
	w.importUnder(former, fill+1)
	advance(time.Second)
}

// wrappingScenarios are those of a wrapping key that is rotated.
var wrappingScenarios = []scenario{
	{
		name: "rotate the wrapping key",
		before: func(w *witness) {
			w.create()
			w.bulk(3, 3000)
			w.publicKey()
		},
		act: func(w *witness) {
			private, err := x509.ParsePKCS8PrivateKey(w.disk.Value(currentWrappingKey(w.mount)))
			require.NoError(w.t, err)
			w.rotateWrappingKey(&private.(*rsa.PrivateKey).PublicKey, 1)
		},
	},
	{
		name: "destroy the former wrapping key",
		before: func(w *witness) {
			w.create()
			w.bulk(3, 10)
			w.publicKey()
			w.must(update, "wrapping_key/rotate", nil)
		},
		act: func(w *witness) {
			advance(24 * time.Hour)
			w.tick()
			w.importKey(1)
			advance(time.Second)
			require.Contains(w.t, w.disk.Keys("import/keys/"), currentWrappingKey(w.mount))
		},
	},
}

func TestEveryCrashPointOfTheWrappingKey(t *testing.T) { atEveryPoint(t, wrappingScenarios) }
