// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"time"

	"github.com/stretchr/testify/require"
)

// OtherTenant is the ID of a second tenant.
const OtherTenant = "00000000-0000-4000-8000-000000000001"

// Encrypted makes a ciphertext.
func (m *Mount) Encrypted(tenant, plaintext string, ad ...string) string {
	m.T.Helper()
	data := map[string]any{"plaintext": Encoded(plaintext)}
	if len(ad) > 0 {
		data["associated_data"] = Encoded(ad[0])
	}
	return m.Must(Update, "tenants/"+tenant+"/encrypt", data)["ciphertext"].(string)
}

// OpensTo requires that a ciphertext opens.
func (m *Mount) OpensTo(plaintext, ciphertext string, ad ...string) {
	m.T.Helper()
	data := map[string]any{"ciphertext": ciphertext}
	if len(ad) > 0 {
		data["associated_data"] = Encoded(ad[0])
	}
	require.Equal(m.T, Encoded(plaintext), m.Must(Update, TenantPath("/decrypt"), data)["plaintext"])
}

// Rotated rotates to the end.
func (m *Mount) Rotated(data map[string]any) {
	m.T.Helper()
	id := m.Must(Update, TenantPath("/dek/rotate"), data)["rotation_id"].(string)
	Advance(time.Minute)
	require.Equal(m.T, "completed", m.Status(id)["status"])
}

// VersionList is what dek lists.
func (m *Mount) VersionList() []map[string]any {
	m.T.Helper()
	return m.Must(Read, TenantPath("/dek"), nil)["versions"].([]map[string]any)
}
