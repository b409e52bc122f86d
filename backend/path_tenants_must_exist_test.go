// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A mistyped ID makes no tenant of a change of settings.
func TestMustExist(t *testing.T) {
	m := newMount(t)
	defer m.close()
	pause := map[string]any{"rotation_paused": true, "must_exist": true}
	resp, err := m.call(update, tenantPath(""), pause)
	require.Equal(t, 404, code(resp, err), "%v", err)
	require.Empty(t, m.disk.Keys("tenants/"))
	require.Empty(t, m.disk.Keys("keys/"))

	m.must(update, tenantPath(""), map[string]any{"must_exist": false})
	require.Equal(t, true, m.must(update, tenantPath(""), pause)["rotation_paused"])
	resp, err = m.call(update, tenantPath(""), map[string]any{"must_exist": "perhaps"})
	require.Equal(t, 400, code(resp, err))
	require.ErrorContains(t, err, "must_exist must be true or false")
}
