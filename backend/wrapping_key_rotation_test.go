// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// importsUnder is the body of an import under a public key.
func importsUnder(m *enginetest.Mount, public *rsa.PublicKey, key []byte) map[string]any {
	m.T.Helper()
	return map[string]any{"ciphertext": enginetest.Wrapped(m.T, public, sha256.New(), key)}
}

func TestWrappingKeyIsRotated(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		path := enginetest.TenantPath("/dek/import")
		first := m.PublicKey()
		require.NotContains(t, m.Must(enginetest.Read, "wrapping_key", nil), "former_until")
		rotatedAt := time.Now()
		answer := m.Must(enginetest.Update, "wrapping_key/rotate", nil)
		second := enginetest.ParsePublic(t, answer["public_key"].(string))
		require.NotEqual(t, first, second)
		require.Equal(t, rotatedAt.Add(24*time.Hour).UTC().Format(time.RFC3339Nano), answer["former_until"])
		require.Equal(t, second, m.PublicKey())

		m.Must(enginetest.Update, path, importsUnder(m, first, enginetest.OwnersKey(1)))
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Update, path, importsUnder(m, second, enginetest.OwnersKey(2)))
		enginetest.Advance(24*time.Hour - 2*time.Minute)
		m.Tick()
		require.Len(t, m.Disk.Keys("import/keys/"), 2)
		m.Refused(400, "does not unwrap", enginetest.Update, path, importsUnder(m, first, enginetest.OwnersKey(3))) // 24 h have passed
		m.Tick()
		require.Equal(t, []string{enginetest.CurrentWrappingKey(m)}, m.Disk.Keys("import/keys/"))
		require.Empty(t, enginetest.WrappingRecord(m).Former)
		m.Must(enginetest.Update, path, importsUnder(m, second, enginetest.OwnersKey(3)))
		enginetest.Advance(time.Minute)
	})
}

// The first rotation makes the key if there is none. A repeated request makes no other.
func TestRepeatedRotationOfTheWrappingKey(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		first, err := m.CallAs("a request's ID", enginetest.Update, "wrapping_key/rotate", nil)
		require.NoError(t, err)
		require.Nil(t, first.Data["former_until"])
		again, err := m.CallAs("a request's ID", enginetest.Update, "wrapping_key/rotate", nil)
		require.NoError(t, err)
		require.Equal(t, first.Data["public_key"], again.Data["public_key"])
		require.Len(t, m.Disk.Keys("import/keys/"), 1)
	})
}

// Former keys are bounded: each costs an import that does not unwrap its time.
func TestTooManyFormerWrappingKeys(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.PublicKey()
		for range 8 {
			m.Must(enginetest.Update, "wrapping_key/rotate", nil)
		}
		m.Refused(409, "wait until the oldest is destroyed", enginetest.Update, "wrapping_key/rotate", nil)
		enginetest.Advance(24 * time.Hour)
		m.Tick()
		require.Len(t, m.Disk.Keys("import/keys/"), 1)
		m.Must(enginetest.Update, "wrapping_key/rotate", nil)
	})
}

// A key that was made before wrapping keys had IDs goes on, and goes with a rotation.
func TestWrappingKeyFromBefore(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		der, err := enginetest.NextWrappingKey()
		require.NoError(t, err)
		m.Disk.Set("import/wrapping_key", slices.Clone(der))
		private, err := x509.ParsePKCS8PrivateKey(der)
		require.NoError(t, err)
		first := &private.(*rsa.PrivateKey).PublicKey
		require.Equal(t, first, m.PublicKey())
		require.Nil(t, m.Disk.Value("import/current"), "reading writes nothing")
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), importsUnder(m, first, enginetest.OwnersKey(1)))
		enginetest.Advance(time.Minute)

		m.Must(enginetest.Update, "wrapping_key/rotate", nil)
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), importsUnder(m, first, enginetest.OwnersKey(2)))
		re := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		enginetest.Advance(24 * time.Hour)
		re.Tick()
		require.Nil(t, m.Disk.Value("import/wrapping_key"))
		require.NotEqual(t, first, re.PublicKey())
		re.Close()
	})
}
