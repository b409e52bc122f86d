// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"hash"
	"path"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/importstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
)

// ImportKey imports a key under the wrapping key on disk.
func (w *Oracle) ImportKey(fill byte) {
	w.T.Helper()
	private, err := x509.ParsePKCS8PrivateKey(w.Disk.Value(CurrentWrappingKey(w.Mount)))
	require.NoError(w.T, err)
	w.ImportUnder(&private.(*rsa.PrivateKey).PublicKey, fill)
}

// ImportUnder imports a key of fill bytes, wrapped under public.
func (w *Oracle) ImportUnder(public *rsa.PublicKey, fill byte) {
	w.T.Helper()
	body := map[string]any{"ciphertext": Wrapped(w.T, public, sha256.New(), OwnersKey(fill))}
	w.Do(Update, TenantPath("/dek/import"), body, func(w *Oracle, resp *logical.Response) {
		id := resp.Data["rotation_id"].(string)
		w.Rotations = append(w.Rotations, id)
		w.Ends[id] = []string{"completed"}
		w.Imported[id] = OwnersKey(fill)
	})
}

// wrappingKeys are made once for all tests, since making one takes its time.
var wrappingKeys = [2]func() ([]byte, error){
	sync.OnceValues(keyring.NewWrappingKey), sync.OnceValues(keyring.NewWrappingKey),
}

// WrappingKeysMade counts how often an engine has asked for a new wrapping key.
var WrappingKeysMade atomic.Int64

// NextWrappingKey returns one and the other in turn.
func NextWrappingKey() ([]byte, error) {
	return wrappingKeys[WrappingKeysMade.Add(1)%2]()
}

// PublicKey reads the wrapping key as an owner does.
func (m *Mount) PublicKey() *rsa.PublicKey {
	m.T.Helper()
	return ParsePublic(m.T, m.Must(Read, "wrapping_key", nil)["public_key"].(string))
}

// ParsePublic reads a public key as the engine shows it.
func ParsePublic(t *testing.T, text string) *rsa.PublicKey {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	require.Empty(t, rest)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	return public.(*rsa.PublicKey)
}

// OwnersKey is a key that an owner has made.
func OwnersKey(fill byte) []byte {
	key := sha256.Sum256([]byte{fill})
	return key[:]
}

// Wrapped makes an import of a key.
func Wrapped(t *testing.T, public *rsa.PublicKey, h hash.Hash, key []byte) string {
	t.Helper()
	ephemeral := make([]byte, 32)
	_, _ = rand.Read(ephemeral)
	raw, err := keyringtest.WrapForImport(public, h, ephemeral, key, nil)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(raw)
}

// Imports is the body of a request that imports a key.
func (m *Mount) Imports(key []byte) map[string]any {
	m.T.Helper()
	return map[string]any{"ciphertext": Wrapped(m.T, m.PublicKey(), sha256.New(), key)}
}

// OnKey requires that every page on disk opens with what is derived from an imported
// key, by an implementation that shares no code with the engine.
func (m *Mount) OnKey(imported []byte) {
	m.T.Helper()
	rec := NewOracle(m).Record()
	key := DerivedPageKey(imported, rec)
	opens := func(name, label string, headerBytes int) {
		entry := m.Disk.Value(name)
		_, err := keyringtest.Open(string(rec.Keys.Active().KeyType), key, entry[headerBytes:], keyringtest.AssociatedData(
			label, rec.ID, rec.Incarnation, path.Base(name)[1:], string(entry[:headerBytes])))
		require.NoError(m.T, err, name)
	}
	require.NotEmpty(m.T, m.PageKeys())
	for _, name := range m.PageKeys() {
		opens(name, "vault-plugin-dek/page/v1", HeaderLength)
	}
	for _, name := range m.DeltaKeys() {
		opens(name, "vault-plugin-dek/delta/v1", HeaderLength+16)
	}
}

// WrappingRecord reads which wrapping keys there are from disk.
func WrappingRecord(m *Mount) *importstore.WrappingRecord {
	m.T.Helper()
	r := new(importstore.WrappingRecord)
	require.NoError(m.T, json.Unmarshal(m.Disk.Value("import/current"), r))
	return r
}

// CurrentWrappingKey is the entry of the current wrapping key.
func CurrentWrappingKey(m *Mount) string { return "import/keys/" + WrappingRecord(m).KeyID }
