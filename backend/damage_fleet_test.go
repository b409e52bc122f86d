// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// fleetSize is the number of tenants beside one with a damaged entry. The race detector
// takes ten times as long, and looks for something else.
func fleetSize() int {
	if underRace {
		return 50
	}
	return 1000
}

// TestFleetIsRotatedBesideDamage has a mount of 1,000 tenants whose keys are due, and
// testTenant with one damaged entry, of each family in turn. Every tenant whose own
// entries are whole is rotated on time.
func TestFleetIsRotatedBesideDamage(t *testing.T) {
	inOrder(t)
	cryptotest.SetGlobalRandom(t, seedOf(t))
	var disk *storagetest.Disk
	var known *witness
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.must(update, "config", map[string]any{"scheduler_jitter": 0, "rotation_parallelism": 1})
		m.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		m.publicKey()
		for n := range fleetSize() {
			m.must(update, "tenants/"+tenantN(n), nil)
		}
		w := newWitness(m)
		w.createAES()
		w.bulk(25, 3000)
		w.encrypt("outside")
		w.rotate()
		advance(time.Second)
		w.deltas()
		require.NotEmpty(t, w.deltaKeys())
		held := w.holdAfter("pages/")
		w.rotate()
		synctest.Wait()
		require.True(t, held.Load())
		m.disk.Set("progress/"+w.record().Incarnation, []byte(`{"rotation_id":"`+w.rotations[1]+`"}`))
		m.crash()
		require.NotEmpty(t, m.disk.Keys("wal/"))
		disk, known = m.disk, w
	})
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := known.on(&mount{t: t, disk: disk.Clone()})
				if !f.damage(w.disk, w.record()) {
					return // there is none while this is at rest
				}
				advance(90*day + time.Minute)
				w = w.on(openMount(t, w.disk, 0, storagetest.None))
				defer w.close()
				w.rests(10) // an error that says nothing is told from trouble within minutes
				for n := range fleetSize() {
					if f.hidesShard && tenant.ShardOf(tenantN(n)) == tenant.ShardOf(testTenant) {
						continue // nothing tells that there is such a tenant
					}
					rotated := new(tenant.Record)
					require.NoError(t, json.Unmarshal(w.disk.Value("tenants/"+shardName(tenantN(n))+"/"+tenantN(n)), rotated))
					require.Equal(t, 2, rotated.Keys.Active().Number, "tenant %d", n)
					require.Nil(t, rotated.Rotation)
				}
				require.True(t, w.b.schedule.Budget().Empty())
			})
		})
	}
}
