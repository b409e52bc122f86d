// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// An external key whose Put failed, with effect, is read by a decrypt, which takes no
// lock, just as an encrypt makes another in its place. The one that was made stays: what
// is sealed under the other would be lost.
func TestHiddenExternalKeyReadAsItIsReplaced(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Storage.Fail(enginetest.FailOn("put", "keys/", storagetest.AfterStale))
	resp, err := m.Call(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": ""})
	require.Equal(t, 500, enginetest.Code(resp, err))
	m.Storage.Fail(nil)

	putting, put := make(chan struct{}), make(chan struct{})
	opened, open := make(chan struct{}), make(chan struct{})
	var p, g atomic.Int64
	m.Storage.Hook(func(op, key string) {
		if op == "put" && strings.HasSuffix(key, ".ext") && p.Add(1) == 1 {
			close(putting)
			<-put
		}
	})
	sealing := m.Concurrently(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": enginetest.Encoded("first")})
	<-putting
	m.Disk.RestartVault() // Vault's cache has pushed the entry out
	m.Storage.Done(func(op, key string) {
		if op == "get" && strings.HasSuffix(key, ".ext") && g.Add(1) == 1 {
			close(opened)
			<-open
		}
	})
	opening := m.Concurrently(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
	<-opened
	close(put)
	<-sealing
	close(open)
	<-opening
	m.Storage.Hook(nil)
	m.Storage.Done(nil)

	ciphertext := m.Encrypted(enginetest.TenantID, "acknowledged")
	m.Close()
	again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer again.Close()
	again.OpensTo("acknowledged", ciphertext)
}
