// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Vault holds a mount read-only that it took up while its plugin could not be started.
// Writes say what to do; everything that only reads goes on.
func TestMountThatIsHeldReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, enginetest.ItemPath("there"), enginetest.Secret("v"))
		ciphertext := m.Encrypted(enginetest.TenantID, "x")
		enginetest.Advance(time.Second)
		// As text, as it comes over gRPC.
		m.Storage.Outage(errors.New(logical.ErrSetupReadOnly.Error()), false)

		const says = "step down or restart"
		m.Refused(503, says, enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
		m.Refused(503, says, logical.PatchOperation, enginetest.ItemPath("there"), enginetest.Secret("w"))
		m.Refused(503, says, enginetest.Delete, enginetest.ItemPath("there"), nil)
		m.Refused(503, says, enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": "another"})
		m.Refused(503, says, enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
		m.Refused(503, says, enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		m.Refused(503, says, enginetest.Update, "rotations", map[string]any{"all": true})
		m.Refused(503, says, enginetest.Update, "kek/rotate", nil)
		m.Refused(503, says, enginetest.Update, "config", map[string]any{"org_id": "acme"})
		m.Refused(503, says, enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		m.Refused(503, says, enginetest.Delete, enginetest.TenantPath(""), nil)
		results := m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": []any{
			map[string]any{"kind": "secrets", "name": "x", "data": map[string]any{"v": "1"}},
		}})["results"].([]map[string]any)
		require.Contains(t, results[0]["error"], says)

		for range 3 {
			m.Tick()
		}
		require.EqualValues(t, 1, m.Must(enginetest.Read, "status", nil)["tenants"])
		require.Equal(t, enginetest.Secret("v")["data"], m.Must(enginetest.Read, enginetest.ItemPath("there"), nil)["data"])
		m.OpensTo("x", ciphertext)
		m.Must(enginetest.Read, "kek", nil)
		m.Must(enginetest.Read, "config", nil)

		m.Storage.Outage(nil, false)
		m.Tick()
		m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
		m.Rotated(nil)
	})
}

// leaving is a system of a node that stops leading.
type leaving struct {
	logical.StaticSystemView
	state *consts.ReplicationState
}

func (l leaving) ReplicationState() consts.ReplicationState { return *l.state }

// While there is no leader, a write may come without its body. That is no judgement on
// its fields.
func TestWriteWithoutABodyAndWithoutALeader(t *testing.T) {
	state := new(consts.ReplicationState)
	m := enginetest.Conditions{
		System: leaving{logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}}, state},
	}.Open(t, storagetest.NewDisk(), 0, storagetest.None)
	m.Start()
	defer m.Close()
	m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
	m.Refused(400, "rotation_interval", enginetest.Update, "key/rotationSettings", nil)
	m.Refused(400, "data", enginetest.Update, enginetest.ItemPath("x"), nil)
	m.Refused(400, "items", enginetest.Update, enginetest.TenantPath("/items"), nil)

	*state = consts.ReplicationPerformanceStandby // and the framework has not noticed yet
	m.Refused(503, "try again", enginetest.Update, "key/rotationSettings", nil)
	_, err := m.Call(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	require.ErrorIs(t, err, logical.ErrReadOnly, "which Vault forwards")
}
