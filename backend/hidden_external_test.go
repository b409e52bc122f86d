// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// An external key whose Put failed, with effect, is read by a decrypt, which takes no
// lock, just as an encrypt makes another in its place. The one that was made stays: what
// is sealed under the other would be lost.
func TestHiddenExternalKeyReadAsItIsReplaced(t *testing.T) {
	m := withTenant(t)
	m.storage.Fail(on("put", "keys/", storagetest.AfterStale))
	resp, err := m.call(update, tenantPath("/encrypt"), map[string]any{"plaintext": ""})
	require.Equal(t, 500, code(resp, err))
	m.storage.Fail(nil)

	putting, put := make(chan struct{}), make(chan struct{})
	opened, open := make(chan struct{}), make(chan struct{})
	var p, g atomic.Int64
	m.storage.Hook(func(op, key string) {
		if op == "put" && strings.HasSuffix(key, ".ext") && p.Add(1) == 1 {
			close(putting)
			<-put
		}
	})
	sealing := m.beside(update, tenantPath("/encrypt"), map[string]any{"plaintext": encoded("first")})
	<-putting
	m.disk.RestartVault() // Vault's cache has pushed the entry out
	m.storage.Done(func(op, key string) {
		if op == "get" && strings.HasSuffix(key, ".ext") && g.Add(1) == 1 {
			close(opened)
			<-open
		}
	})
	opening := m.beside(update, tenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
	<-opened
	close(put)
	<-sealing
	close(open)
	<-opening
	m.storage.Hook(nil)
	m.storage.Done(nil)

	ciphertext := m.encrypted(testTenant, "acknowledged")
	m.close()
	again := openMount(t, m.disk, 0, storagetest.None)
	defer again.close()
	again.opensTo("acknowledged", ciphertext)
}
