// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// TestBootstrapShowsTheKVFace tunes the mount once, if it is told to, and never back.
func TestBootstrapShowsTheKVFace(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	options := func() any {
		t.Helper()
		return succeeded(t, callRoot(t, s, http.MethodGet, "sys/mounts/dek", nil))["options"]
	}
	out, code := runScript(t, s, "KV_FACE=yes")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "KV_FACE is 1 or nothing")
	before := options()

	out, code = runScript(t, s, "KV_FACE=0")
	require.Equal(t, 0, code, out)
	assert.Equal(t, before, options(), "nothing has changed")

	tenant := newTenant(t, s)
	out, code = runScript(t, s, "KV_FACE=1")
	require.Equal(t, 0, code, out)
	require.Len(t, said(out), 1)
	assert.Contains(t, said(out)[0], "Vault does not take that back")
	assert.Equal(t, map[string]any{"version": "2"}, options())
	printed, err := vaultCLI(t, s, "kv", "put", "-mount=dek", tenant+"/secrets/x", "a=b")
	require.NoError(t, err, printed)

	for _, face := range []string{"KV_FACE=1", "KV_FACE="} {
		out, code = runScript(t, s, face)
		require.Equal(t, 0, code, out)
		assert.Empty(t, said(out), face)
		assert.Equal(t, map[string]any{"version": "2"}, options())
	}
}
