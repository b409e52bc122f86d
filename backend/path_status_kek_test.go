// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestStatusTellsTheAgeOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		enginetest.Advance(time.Second)
		s := m.Must(enginetest.Read, "status", nil)
		require.Nil(t, s["kek_age"], "there is none")
		require.Equal(t, false, s["kek_overdue"])
		require.Equal(t, map[string]any{}, s["providers"])
		require.EqualValues(t, 1, s["evidence_size"], "that it was started")
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		enginetest.Advance(364 * enginetest.Day)
		s = m.Must(enginetest.Read, "status", nil)
		require.EqualValues(t, (364*enginetest.Day + 0).Seconds(), s["kek_age"])
		require.Equal(t, false, s["kek_overdue"])
		enginetest.Advance(2 * enginetest.Day)
		require.Equal(t, true, m.Must(enginetest.Read, "status", nil)["kek_overdue"])
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Minute)
		s = m.Must(enginetest.Read, "status", nil)
		require.EqualValues(t, 60, s["kek_age"])
		require.Equal(t, false, s["kek_overdue"])
	})
}

// status answers although the record of the KEK cannot be read, and says so.
func TestStatusPastDamageOfTheKEK(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Storage.Fail(enginetest.FailOn("get", "kek/", storagetest.Before))
	resp, err := m.Call(enginetest.Read, "status", nil)
	require.Equal(t, 200, enginetest.Code(resp, err))
	require.Nil(t, resp.Data["kek_age"])
	require.Equal(t, 1, resp.Data["tenants"])
	require.NotEmpty(t, resp.Warnings)
}

// Who asks for an operation that a path does not have is told those that it has.
func TestUnsupportedOperationsSayWhatThereIs(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, c := range []struct {
		op   logical.Operation
		path string
		text string
	}{
		{enginetest.Read, "tenants", "vault list"},
		{enginetest.Read, "tenants/", "vault list"},
		{enginetest.Read, "tombstones", "vault list"},
		{enginetest.Read, "rotations", "only list, write: it is a list"},
		{enginetest.Read, enginetest.TenantPath("/secrets"), "vault list"},
		{enginetest.Read, enginetest.TenantPath("/dek/rotations"), "vault list"},
		{enginetest.List, "config", "no operation list, only read, write"},
		{enginetest.Update, "status", "no operation write, only read"},
		{enginetest.Update, enginetest.TenantPath("/dek"), "only read"},
		{enginetest.Delete, "config", "only read, write"},
		{logical.PatchOperation, "fleet", "only read"},
	} {
		m.Refused(405, c.text, c.op, c.path, nil)
	}
	m.Refused(500, "unsupported path", enginetest.Read, "nothing", nil) // Vault makes a 404 of that
	_, err := m.Engine.HandleRequest(context.Background(), &logical.Request{Operation: logical.RevokeOperation, Path: "status", Storage: m.Storage})
	require.NotContains(t, err.Error(), "operation write", "what Vault asks for itself")
}
