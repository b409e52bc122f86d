// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// The AEADs of more tenants than are kept are closed, but none that was given lately.
func TestTenantsKept(t *testing.T) {
	engine, _ := inMemory(t)
	all, err := (&app{mount: client.DefaultMount}).newTenants(client.DefaultBatch)
	require.NoError(t, err)
	all.max = 3
	var given []*client.AEAD
	for i := range 10 {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		engine.CreateTenant(id)
		aead, err := all.of(id)
		require.NoError(t, err)
		again, err := all.of(id)
		require.NoError(t, err)
		assert.Same(t, aead, again)
		given = append(given, aead)
		for j, before := range given {
			_, err := before.Encrypt(nil, nil)
			if j >= i-3 {
				assert.NoError(t, err, "%d, after %d", j, i)
			}
			if j < i-5 {
				assert.ErrorIs(t, err, client.ErrClosed, "%d, after %d", j, i)
			}
		}
	}
	older, err := all.of("00000000-0000-4000-8000-000000000007")
	require.NoError(t, err)
	assert.Same(t, given[7], older)
	require.NoError(t, all.close())
	for _, aead := range given {
		_, err := aead.Encrypt(nil, nil)
		assert.ErrorIs(t, err, client.ErrClosed)
	}
	_, err = all.of("nobody")
	assert.ErrorIs(t, err, client.ErrTenantID)
}
