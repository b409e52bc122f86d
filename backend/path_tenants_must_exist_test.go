// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// A mistyped ID makes no tenant of a change of settings.
func TestMustExist(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	pause := map[string]any{"rotation_paused": true, "must_exist": true}
	resp, err := m.Call(enginetest.Update, enginetest.TenantPath(""), pause)
	require.Equal(t, 404, enginetest.Code(resp, err), "%v", err)
	require.Empty(t, m.Disk.Keys("tenants/"))
	require.Empty(t, m.Disk.Keys("keys/"))

	m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"must_exist": false})
	require.Equal(t, true, m.Must(enginetest.Update, enginetest.TenantPath(""), pause)["rotation_paused"])
	resp, err = m.Call(enginetest.Update, enginetest.TenantPath(""), map[string]any{"must_exist": "perhaps"})
	require.Equal(t, 400, enginetest.Code(resp, err))
	require.ErrorContains(t, err, "must_exist must be true or false")
}
