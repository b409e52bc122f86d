// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"maps"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
)

// ProviderName is that of the key provider that Provide makes, and ProviderLease its lease.
const (
	ProviderName  = "owner"
	ProviderLease = time.Minute
)

// ProviderBody is the body of a write of a key provider that the mount's Transit answers.
func ProviderBody(more map[string]any) map[string]any {
	body := map[string]any{
		"type": "transit", "lease": "1m", "timeout": "2s", "mount": true, "tenants": []any{"*"},
		"parameters": map[string]any{"address": "https://owner.example", "token": providertest.Token, "key_name": "dek"},
	}
	maps.Copy(body, more)
	return body
}

// Provide makes a key provider.
func (m *Mount) Provide(more map[string]any) {
	m.T.Helper()
	m.Must(Update, "providers/"+ProviderName, ProviderBody(more))
}

// MoveTenant moves the keys of a tenant to a KEK of its own under a provider, or back to the
// mount's, and waits until every key is there.
func (m *Mount) MoveTenant(tenantID, under string) {
	m.T.Helper()
	path := "tenants/" + tenantID + "/kek"
	m.Must(Update, path+"/rotate", map[string]any{"provider": under})
	Advance(time.Second)
	kek := m.Must(Read, path, nil)
	require.Equal(m.T, "completed", kek["status"], "%v", kek["failures"])
	require.Equal(m.T, under, kek["provider"])
}

// MoveUnderOwnKEK moves the keys of TenantID to a KEK of its own, and lets the rotation end
// that this makes due.
func (w *Oracle) MoveUnderOwnKEK() {
	w.T.Helper()
	w.MoveTenant(TenantID, ProviderName)
	w.Rests(1)
	latest := w.Latest()
	require.Equal(w.T, []any{"completed", "requested"}, []any{latest["status"], latest["trigger"]})
}

// MoveKEK moves the mount's KEK under a provider, empty for Vault's storage, and waits
// until every key is there.
func (m *Mount) MoveKEK(under string) {
	m.T.Helper()
	m.Must(Update, "kek/rotate", map[string]any{"provider": under})
	Advance(time.Second)
	kek := m.Must(Read, "kek", nil)
	require.Equal(m.T, "completed", kek["status"])
	require.Equal(m.T, under, kek["provider"])
}
