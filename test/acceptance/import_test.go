// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// wrappingKey reads the public key under which keys are wrapped for import.
func wrappingKey(t *testing.T, s *devstack.Stack) *rsa.PublicKey {
	t.Helper()
	data := succeeded(t, callRoot(t, s, http.MethodGet, "dek/wrapping_key", nil))
	fields{"public_key": isText}.check(t, data)
	block, rest := pem.Decode([]byte(data["public_key"].(string)))
	require.NotNil(t, block)
	require.Empty(t, rest)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	return public.(*rsa.PublicKey)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// wrapped makes an import of a key, as transit's tools do.
func wrapped(t *testing.T, public *rsa.PublicKey, key []byte) string {
	t.Helper()
	ephemeral := random(32)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, ephemeral, nil)
	require.NoError(t, err)
	wrapper, err := kwp.NewKWP(ephemeral)
	require.NoError(t, err)
	wrapped, err := wrapper.Wrap(key)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(append(encrypted, wrapped...))
}

func TestContractImport(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	items, err := s.Seed(t.Context(), tenant)
	require.NoError(t, err)
	public, key := wrappingKey(t, s), random(32)
	require.Equal(t, public, wrappingKey(t, s), "the same from then on")
	before := readDEK(t, s, tenant)

	path := tenantPath(tenant, "dek/import")
	body := map[string]any{"ciphertext": wrapped(t, public, key), "reason": "ours", "idempotency_key": "import"}
	started := succeeded(t, callRoot(t, s, http.MethodPut, path, body))
	rotationFields().check(t, started)
	assert.Equal(t, []any{"ours", before["current_key_id"]}, []any{started["reason"], started["previous_key_id"]})
	id := started["rotation_id"].(string)
	again := map[string]any{"ciphertext": wrapped(t, public, key), "idempotency_key": "import"}
	assert.Equal(t, id, succeeded(t, callRoot(t, s, http.MethodPut, path, again))["rotation_id"])
	waitRotation(t, s, tenant, id, "completed")

	dek := readDEK(t, s, tenant)
	all := versions(t, dek)
	require.Len(t, all, 2)
	assert.NotContains(t, all[0], "imported")
	want := versionFields()
	want["version"], want["pages"], want["rotation_id"], want["imported"] = is(2.0), isNumber, is(id), is(true)
	want["key_id"] = is(started["new_key_id"])
	want.check(t, all[1])
	same, err := s.CountSame(t.Context(), tenant, items)
	require.NoError(t, err)
	assert.Equal(t, len(items), same)

	known := callRoot(t, s, http.MethodPut, path, map[string]any{"ciphertext": wrapped(t, public, key)})
	refused(t, known, http.StatusConflict, "imported before", id)
	assert.Equal(t, id, known.data()["rotation_id"])

	// The role for it may do it, and not for another tenant.
	admin := login(t, s, tenant, keyImporter)
	require.Equal(t, http.StatusOK, call(t, s, http.MethodGet, "dek/wrapping_key", admin, nil).Status)
	mine := map[string]any{"ciphertext": wrapped(t, public, random(32))}
	id = succeeded(t, call(t, s, http.MethodPut, path, admin, mine))["rotation_id"].(string)
	waitRotation(t, s, tenant, id, "completed")
	other := call(t, s, http.MethodPut, tenantPath(newTenant(t, s), "dek/import"), admin, mine)
	assert.Equal(t, http.StatusForbidden, other.Status)
}

func TestContractImportRefused(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	public := wrappingKey(t, s)
	good := wrapped(t, public, random(32))
	stranger, err := rsa.GenerateKey(rand.Reader, 4096)
	require.NoError(t, err)
	before := readDEK(t, s, tenant)
	for name, body := range map[string]map[string]any{
		"nothing": {}, "empty": {"ciphertext": ""}, "a number": {"ciphertext": 1}, "a list": {"ciphertext": []any{good}},
		"rubbish": {"ciphertext": strings.Repeat("!", len(good))}, "truncated": {"ciphertext": good[:len(good)-4]},
		"extended": {"ciphertext": good + "AAAA"}, "line breaks": {"ciphertext": good[:76] + "\n" + good[76:]},
		"1 MiB": {"ciphertext": strings.Repeat("A", 1<<20-1)}, "another mount's": {"ciphertext": wrapped(t, &stranger.PublicKey, random(32))},
		"16 bytes": {"ciphertext": wrapped(t, public, random(16))}, "31 bytes": {"ciphertext": wrapped(t, public, random(31))},
		"another hash function": {"ciphertext": good, "hash_function": "SHA512"}, "no hash function": {"ciphertext": good, "hash_function": "MD5"},
		"no key type": {"ciphertext": good, "key_type": "rsa-2048"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "dek/import"), body), http.StatusBadRequest)
		})
	}
	unknown := callRoot(t, s, http.MethodPut, tenantPath(uuid.NewString(), "dek/import"), map[string]any{"ciphertext": good})
	refused(t, unknown, http.StatusNotFound)
	assert.Equal(t, before, readDEK(t, s, tenant), "nothing has changed")
}

// TestImportWithOpenSSL runs the example of docs/import.md as it stands there.
func TestImportWithOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	s := shared(t)
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	document, err := os.ReadFile(filepath.Join(root, "docs", "import.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(document), "```sh\n")
	require.True(t, found)
	script, _, found := strings.Cut(rest, "```")
	require.True(t, found)

	tenant := newTenant(t, s)
	bin, err := exec.LookPath(vaultBin(t))
	require.NoError(t, err)
	bin, err = filepath.Abs(bin)
	require.NoError(t, err)
	commands := t.TempDir()
	require.NoError(t, os.Symlink(bin, filepath.Join(commands, "vault")))
	run := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
	run.Dir = t.TempDir()
	run.Env = []string{
		"VAULT_ADDR=" + s.VaultAddr(), "VAULT_TOKEN=" + s.RootToken(), "TENANT=" + tenant, "HOME=" + t.TempDir(),
		"PATH=" + commands + string(os.PathListSeparator) + os.Getenv("PATH"),
	}
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "rotation_id")
	require.Eventually(t, func() bool { return versions(t, readDEK(t, s, tenant))[1]["state"] == "active" }, rotationLimit, rotationTick)
	assert.Equal(t, true, versions(t, readDEK(t, s, tenant))[1]["imported"])
}
