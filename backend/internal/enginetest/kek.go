// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// OtherTenants makes other tenants, whose keys are moved before those of the oracle's,
// and after.
func OtherTenants(w *Oracle) {
	for n := range 3 {
		w.Must(Update, "tenants/"+TenantN(n), nil)
	}
}

// FailStale lets the next n operations of that name on keys of that form fail with
// effect, while Vault's cache goes on showing what it showed.
func (m *Mount) FailStale(n int, op string, on func(key string) bool) (left *int) {
	left = &n
	m.Storage.Fail(func(o, key string) storagetest.Fault {
		if o != op || !on(key) || *left == 0 {
			return storagetest.None
		}
		*left--
		return storagetest.AfterStale
	})
	return left
}

// DiesAfter lets the process die after an operation on an entry below prefix.
func (m *Mount) DiesAfter(op, prefix string) {
	done := false
	m.Storage.Fail(func(o, key string) storagetest.Fault {
		if done {
			return storagetest.Gone
		}
		done = o == op && strings.HasPrefix(key, prefix)
		return storagetest.None
	})
}

// PutHidden puts an entry, which Vault's cache hides.
func (m *Mount) PutHidden(key string, value []byte) {
	m.T.Helper()
	s := storagetest.Open(m.Disk, 0, storagetest.None)
	s.Fail(func(string, string) storagetest.Fault { return storagetest.AfterStale })
	require.Error(m.T, s.Put(m.T.Context(), &logical.StorageEntry{Key: key, Value: value}))
}

// WithoutDate takes the date from the record of the KEK, as early versions wrote it.
func WithoutDate(t *testing.T, disk *storagetest.Disk) {
	t.Helper()
	var rec map[string]any
	require.NoError(t, json.Unmarshal(disk.Value("kek/current"), &rec))
	delete(rec, "created_at")
	value, err := json.Marshal(rec)
	require.NoError(t, err)
	disk.Set("kek/current", value)
}

// WithKeys is a mount with a tenant that has keys of every kind: of two versions,
// page and external.
func WithKeys(t *testing.T) *Oracle {
	t.Helper()
	w := Filled(t, 2)
	w.Encrypt("old")
	w.Rotate()
	Advance(time.Second)
	w.Encrypt("new")
	return w
}
