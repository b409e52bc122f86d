// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Refused makes a request that has to be refused: with that status, a message
// that names what is wrong, and nothing on disk changed but the evidence log, which goes
// on by itself.
func (m *Mount) Refused(status int, message string, op logical.Operation, path string, data map[string]any) {
	m.T.Helper()
	before := WithoutLog(m.Disk)
	resp, err := m.Call(op, path, data)
	require.Equal(m.T, status, Code(resp, err), "%s %s: %v %v", op, path, resp, err)
	text := ""
	if err != nil {
		text = err.Error()
	} else if resp != nil && resp.IsError() {
		text = resp.Error().Error()
	}
	require.Contains(m.T, text, message)
	require.Equal(m.T, before, WithoutLog(m.Disk), "a refused request changed something")
}

// stored returns the hashes of what is on a disk, by key: a test that fails prints them, and
// keys and secrets do not belong into its output.
func stored(disk *storagetest.Disk) map[string]string {
	entries := map[string]string{}
	for _, key := range disk.Keys("") {
		entries[key] = fmt.Sprintf("%x", sha256.Sum256(disk.Value(key)))
	}
	return entries
}

// WithoutLog returns the hashes of what is on a disk, by key, but for the evidence log, which
// goes on by itself.
func WithoutLog(disk *storagetest.Disk) map[string]string {
	entries := stored(disk)
	maps.DeleteFunc(entries, func(key, _ string) bool { return strings.HasPrefix(key, "evidence/") })
	return entries
}

// Unchanged fails the test if requests changes anything on disk, the evidence log included.
// What the engine writes in the background is waited for before and after: the caller is in
// a bubble of synctest.
func (m *Mount) Unchanged(requests func()) {
	m.T.Helper()
	synctest.Wait()
	before := stored(m.Disk)
	requests()
	synctest.Wait()
	require.Equal(m.T, before, stored(m.Disk))
}

// WithTenant is a mount with a tenant.
func WithTenant(t *testing.T) *Mount {
	t.Helper()
	m := NewMount(t)
	t.Cleanup(m.Close)
	m.Must(logical.UpdateOperation, TenantPath(""), nil)
	return m
}

// The operations, as short as tests need them.
const (
	Read   = logical.ReadOperation
	Update = logical.UpdateOperation
	List   = logical.ListOperation
	Delete = logical.DeleteOperation
)
