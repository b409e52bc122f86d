// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"encoding/json"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// fleetSize is the number of tenants beside one with a damaged entry. The race detector
// takes ten times as long, and looks for something else.
func fleetSize() int {
	if enginetest.UnderRace {
		return 20
	}
	return 1000
}

// TestFleetIsRotatedBesideDamage has a mount of 1,000 tenants whose keys are due, and
// TenantID with one damaged entry, of each family in turn. Every tenant whose own
// entries are whole is rotated on time.
func TestFleetIsRotatedBesideDamage(t *testing.T) {
	enginetest.InOrder(t)
	cryptotest.SetGlobalRandom(t, enginetest.SeedOf(t))
	disks, known := map[bool]*storagetest.Disk{}, map[bool]*enginetest.Oracle{} // true: with a KEK of its own
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0, "rotation_parallelism": 1})
		m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		m.PublicKey()
		for n := range fleetSize() {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		w := enginetest.NewOracle(m)
		w.CreateAES()
		w.Bulk(25, 3000)
		w.Encrypt("outside")
		w.Rotate()
		enginetest.Advance(time.Second)
		w.Deltas()
		require.NotEmpty(t, w.DeltaKeys())
		w.EveryFamily()
		m.Close()
		for _, own := range []bool{false, true} {
			o := w.On(enginetest.OpenMount(t, m.Disk.Clone(), 0, storagetest.None))
			if own {
				o.MoveUnderOwnKEK()
			}
			held := o.HoldAfter("pages/")
			o.Rotate()
			synctest.Wait()
			require.True(t, held.Load())
			o.Disk.Set("progress/"+o.Record().Incarnation, []byte(`{"rotation_id":"`+o.Rotations[1]+`"}`))
			o.Crash()
			require.NotEmpty(t, o.Disk.Keys("wal/"))
			disks[own], known[own] = o.Disk, o
		}
	})
	for n, f := range enginetest.DamageFamilies {
		if enginetest.UnderRace && n%8 != 0 {
			continue // what races is the same beside each
		}
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := known[f.Own].On(&enginetest.Mount{T: t, Disk: disks[f.Own].Clone()})
				if !f.Damage(w.Disk, w.Record()) {
					return // there is none while this is at rest
				}
				enginetest.Advance(90*enginetest.Day + time.Minute)
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				defer w.Close()
				w.Rests(10) // an error that says nothing is told from trouble within minutes
				for n := range fleetSize() {
					if f.HidesShard && tenant.ShardOf(enginetest.TenantN(n)) == tenant.ShardOf(enginetest.TenantID) {
						continue // nothing tells that there is such a tenant
					}
					rotated := new(tenant.Record)
					require.NoError(t, json.Unmarshal(w.Disk.Value("tenants/"+enginetest.ShardName(enginetest.TenantN(n))+"/"+enginetest.TenantN(n)), rotated))
					require.Equal(t, 2, rotated.Keys.Active().Number, "tenant %d", n)
					require.Nil(t, rotated.Rotation)
				}
				require.True(t, w.Engine.Schedule.Budget().Empty())
			})
		})
	}
}
