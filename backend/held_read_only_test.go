// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Vault holds a mount read-only that it took up while its plugin could not be started.
// Writes say what to do; everything that only reads goes on.
func TestMountThatIsHeldReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		m.must(update, itemPath("there"), secret("v"))
		ciphertext := m.encrypted(testTenant, "x")
		advance(time.Second)
		// As text, as it comes over gRPC.
		m.storage.Outage(errors.New(logical.ErrSetupReadOnly.Error()), false)

		const says = "step down or restart"
		m.refused(503, says, update, itemPath("x"), secret("v"))
		m.refused(503, says, logical.PatchOperation, itemPath("there"), secret("w"))
		m.refused(503, says, del, itemPath("there"), nil)
		m.refused(503, says, update, tenantPath(""), map[string]any{"display_name": "another"})
		m.refused(503, says, update, "tenants/"+tenantN(1), nil)
		m.refused(503, says, update, tenantPath("/dek/rotate"), nil)
		m.refused(503, says, update, "rotations", map[string]any{"all": true})
		m.refused(503, says, update, "kek/rotate", nil)
		m.refused(503, says, update, "config", map[string]any{"org_id": "acme"})
		m.refused(503, says, update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		m.refused(503, says, del, tenantPath(""), nil)
		results := m.must(update, tenantPath("/items"), map[string]any{"items": []any{
			map[string]any{"kind": "secrets", "name": "x", "data": map[string]any{"v": "1"}},
		}})["results"].([]map[string]any)
		require.Contains(t, results[0]["error"], says)

		for range 3 {
			m.tick()
		}
		require.EqualValues(t, 1, m.must(read, "status", nil)["tenants"])
		require.Equal(t, secret("v")["data"], m.must(read, itemPath("there"), nil)["data"])
		m.opensTo("x", ciphertext)
		m.must(read, "kek", nil)
		m.must(read, "config", nil)

		m.storage.Outage(nil, false)
		m.tick()
		m.must(update, itemPath("x"), secret("v"))
		m.rotated(nil)
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
	m := conditions{
		system: leaving{logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}}, state},
	}.engine(t, storagetest.NewDisk(), 0, storagetest.None)
	m.start()
	defer m.close()
	m.must(update, tenantPath(""), nil)
	m.refused(400, "rotation_interval", update, "key/rotationSettings", nil)
	m.refused(400, "data", update, itemPath("x"), nil)
	m.refused(400, "items", update, tenantPath("/items"), nil)

	*state = consts.ReplicationPerformanceStandby // and the framework has not noticed yet
	m.refused(503, "try again", update, "key/rotationSettings", nil)
	_, err := m.call(update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	require.ErrorIs(t, err, logical.ErrReadOnly, "which Vault forwards")
}
