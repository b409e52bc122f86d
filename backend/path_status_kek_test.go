// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestStatusTellsTheAgeOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		s := m.must(read, "status", nil)
		require.Nil(t, s["kek_age"], "there is none")
		require.Equal(t, false, s["kek_overdue"])
		require.Equal(t, map[string]any{}, s["providers"])
		require.Equal(t, 0, s["evidence_size"])
		m.must(update, tenantPath(""), nil)
		advance(364 * day)
		s = m.must(read, "status", nil)
		require.EqualValues(t, (364*day + 0).Seconds(), s["kek_age"])
		require.Equal(t, false, s["kek_overdue"])
		advance(2 * day)
		require.Equal(t, true, m.must(read, "status", nil)["kek_overdue"])
		m.must(update, "kek/rotate", nil)
		advance(time.Minute)
		s = m.must(read, "status", nil)
		require.EqualValues(t, 60, s["kek_age"])
		require.Equal(t, false, s["kek_overdue"])
	})
}

// status answers although the record of the KEK cannot be read, and says so.
func TestStatusPastDamageOfTheKEK(t *testing.T) {
	m := withTenant(t)
	m.storage.Fail(on("get", "kek/", storagetest.Before))
	resp, err := m.call(read, "status", nil)
	require.Equal(t, 200, code(resp, err))
	require.Nil(t, resp.Data["kek_age"])
	require.Equal(t, 1, resp.Data["tenants"])
	require.NotEmpty(t, resp.Warnings)
}

// Who asks for an operation that a path does not have is told those that it has.
func TestUnsupportedOperationsSayWhatThereIs(t *testing.T) {
	m := withTenant(t)
	for _, c := range []struct {
		op   logical.Operation
		path string
		text string
	}{
		{read, "tenants", "vault list"},
		{read, "tenants/", "vault list"},
		{read, "tombstones", "vault list"},
		{read, "rotations", "only list, write: it is a list"},
		{read, tenantPath("/secrets"), "vault list"},
		{read, tenantPath("/dek/rotations"), "vault list"},
		{list, "config", "no operation list, only read, write"},
		{update, "status", "no operation write, only read"},
		{update, tenantPath("/dek"), "only read"},
		{del, "config", "only read, write"},
		{logical.PatchOperation, "fleet", "only read"},
	} {
		m.refused(405, c.text, c.op, c.path, nil)
	}
	m.refused(500, "unsupported path", read, "nothing", nil) // Vault makes a 404 of that
	_, err := m.b.HandleRequest(context.Background(), &logical.Request{Operation: logical.RevokeOperation, Path: "status", Storage: m.storage})
	require.NotContains(t, err.Error(), "operation write", "what Vault asks for itself")
}
