// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// OpenBao's standbys, from 2.5 on, and Vault Enterprise's performance standbys start the
// plugin and serve what is not marked to be forwarded. Every operation is.
func TestEveryOperationIsForwarded(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	require.NotEmpty(t, m.Engine.Paths)
	for _, p := range m.Engine.Paths {
		require.Nil(t, p.ExistenceCheck, "%s: it would read on the standby", p.Pattern)
		require.Empty(t, p.Callbacks, "%s: callbacks cannot be marked", p.Pattern) //nolint:staticcheck // nothing may use them
		for op, handler := range p.Operations {
			props := handler.Properties()
			require.True(t, props.ForwardPerformanceStandby, "%s %s", op, p.Pattern)
			require.True(t, props.ForwardPerformanceSecondary, "%s %s", op, p.Pattern)
		}
	}
}

// node is one of two servers over one storage.
type node struct {
	*enginetest.Mount
	state *consts.ReplicationState
}

// newNode starts the plugin on a server, as the server does when it is unsealed and when
// it takes over.
func newNode(t *testing.T, disk *storagetest.Disk, state consts.ReplicationState) *node {
	t.Helper()
	n := &node{state: &state}
	n.Mount = enginetest.Conditions{
		System: leaving{logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}}, n.state},
	}.Open(t, disk, 0, storagetest.None)
	n.Start()
	return n
}

// forwards checks that the node answers nothing by itself: not from what it has in memory,
// and not from storage, in which its reads may be late.
func (n *node) forwards(ciphertext string) {
	n.T.Helper()
	before := n.Storage.Ops()
	for _, r := range []struct {
		op   logical.Operation
		path string
		data map[string]any
	}{
		{enginetest.Read, enginetest.ItemPath("a"), nil},
		{enginetest.Read, "data/" + enginetest.TenantID + "/secrets/a", nil},
		{logical.ListOperation, enginetest.TenantPath("/secrets/"), nil},
		{enginetest.Read, enginetest.TenantPath(""), nil},
		{enginetest.Read, enginetest.TenantPath("/dek"), nil},
		{enginetest.Read, "status", nil},
		{enginetest.Read, "config", nil},
		{enginetest.Read, "metrics", nil},
		{enginetest.Read, "evidence/checkpoint", nil},
		{enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": ciphertext}},
		{enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": enginetest.Encoded("x")}},
		{enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "a"}}}},
		{enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("of the standby")},
		{logical.PatchOperation, enginetest.ItemPath("a"), enginetest.Secret("of the standby")},
		{enginetest.Delete, enginetest.ItemPath("a"), nil},
		{enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil},
	} {
		resp, err := n.Call(r.op, r.path, r.data)
		require.ErrorIs(n.T, err, logical.ErrReadOnly, "%s %s", r.op, r.path)
		require.Nil(n.T, resp)
	}
	require.NoError(n.T, n.Engine.PeriodicFunc(n.T.Context(), nil))
	synctest.Wait()
	require.Equal(n.T, before, n.Storage.Ops(), "storage operations of a standby")
}

// Two servers take turns at being active over one storage, each with what it keeps in
// memory. The one that is not gets the invalidations of what the other writes late,
// repeated, in another order, or never. It answers nothing, and once it takes over it has
// every acknowledged value.
func TestTwoNodesOverOneStorage(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				disk := storagetest.NewDisk()
				active, standby := newNode(t, disk, 0), newNode(t, disk, consts.ReplicationPerformanceStandby)
				w := enginetest.NewOracle(active.Mount)
				w.Create()
				former := standby // once: the one that was active before, with all that it had in memory
				for term := range 4 {
					changed := active.watch()
					w.Put("a", fmt.Sprint("of term ", term))
					w.Put(fmt.Sprint("item-", term), "x")
					w.Encrypt(fmt.Sprint("text ", term))
					w.Remove(fmt.Sprint("item-", term-2))
					standby.invalidate(random, changed())
					ciphertext := active.Encrypted(enginetest.TenantID, "x")
					standby.forwards(ciphertext)
					w.Rotated(nil)
					w.RotateKEK()
					ticks(active.Mount, 2)
					standby.forwards(ciphertext)
					former.forwards(ciphertext)
					w.ReadsBack()

					late := changed()
					synctest.Wait() // nothing reads the state now
					*active.state = consts.ReplicationPerformanceStandby
					enginetest.Advance(2 * time.Second)
					active.forwards(ciphertext) // from memory, it could
					active.Close()
					former = active
					standby.Close()
					// The server sets the engine up anew for another state.
					active, standby = newNode(t, disk, 0), newNode(t, disk, consts.ReplicationPerformanceStandby)
					w = w.On(active.Mount)
					active.invalidate(random, late) // of before it took over
					w.ReadsBack()
					active.OpensTo("x", ciphertext)
				}
				w.Rest()
				w.AtRest()
				active.Close()
				standby.Close()
			})
		})
	}
}

// watch notes the keys that the node writes from now on, and returns what takes them.
func (n *node) watch() (taken func() []string) {
	var mu sync.Mutex
	var keys []string
	n.Storage.Done(func(op, key string) {
		mu.Lock()
		defer mu.Unlock()
		if op == "put" || op == "delete" {
			keys = append(keys, key)
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		now := keys
		keys = nil
		return now
	}
}

// invalidate tells the node of some of the keys, in any order and some of them twice.
func (n *node) invalidate(random *rand.Rand, keys []string) {
	keys = append(slices.Clone(keys), keys...)
	slices.Sort(keys) // the order in which the engine writes differs from run to run
	random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, key := range keys[:random.IntN(len(keys)+1)] {
		n.Engine.InvalidateKey(n.T.Context(), key)
	}
}
