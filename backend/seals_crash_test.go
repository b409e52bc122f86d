// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// fewSeals are the limits of tests: reservations as small as they can be, since
// each may fail, and the limits of the standard.
var fewSeals = keystore.SealLimits{First: 1, Largest: 3, Soft: 1 << 31, Hard: 1 << 32}

// limitSeals sets other limits, and has the disk count what is truly sealed.
func (m *mount) limitSeals(l keystore.SealLimits) {
	l.Sealing = func(incarnation, keyID string) { m.disk.Note(incarnation + "/" + keyID) }
	m.b.Keys.LimitSeals(l)
}

// createAES creates the tenant with keys whose seals are counted.
func (w *witness) createAES() {
	w.do(update, tenantPath(""), map[string]any{"key_type": "aes256-gcm"}, func(w *witness, _ *logical.Response) { w.created = true })
}

// counted checks that no key has sealed more than an engine that starts now on
// what is on disk would say, behind the cache as it is and without one; and that
// there is no count of keys that are gone.
func (w *witness) counted() {
	w.t.Helper()
	if !w.recorded() {
		return
	}
	rec := w.record()
	var counts []string
	for _, v := range rec.Keys.Versions {
		if v.KeyType != keyring.AES256GCM || v.State == keyring.Destroyed {
			continue
		}
		counts = append(counts, "seals/"+rec.Incarnation+"/"+v.KeyID)
		w.countedVersion(rec, v)
	}
	require.Subset(w.t, counts, w.disk.Keys("seals/"+rec.Incarnation+"/"), "counts of keys that are gone")
}

func (w *witness) countedVersion(rec *tenant.Record, v keyring.Version) {
	w.t.Helper()
	for _, cached := range []bool{true, false} {
		disk := w.disk.Clone()
		if !cached {
			disk.RestartVault()
		}
		fresh := keystore.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)), time.Now)
		fresh.LimitSeals(fewSeals)
		shown, err := fresh.Seals(context.Background(), rec.Owner(), &v, true)
		require.NoError(w.t, err)
		page := rec.Incarnation + "/" + v.KeyID
		for key, n := range map[string]int64{page: shown.Page, page + ".ext": shown.External} {
			if disk.Value("keys/"+key) != nil { // else it is being destroyed
				require.GreaterOrEqual(w.t, n, int64(disk.Noted(key)), "seals of %s", key)
			}
		}
	}
}

// countedScenarios are those of keys whose seals are counted.
var countedScenarios = []scenario{
	{
		name:   "write and encrypt, counted",
		before: func(*witness) {},
		act: func(w *witness) {
			w.createAES()
			for _, v := range []string{"1", "2", "3", "4", "5"} {
				w.put("a", v)
				w.encrypt(v)
			}
			w.rewrap()
		},
		twice: true,
	},
	{
		name: "rotate, counted",
		before: func(w *witness) {
			w.createAES()
			w.bulk(40, 3000)
			w.encrypt("before")
		},
		act: func(w *witness) {
			w.rotate()
			advance(time.Second)
			w.put("bulk/1", "afterwards")
			w.encrypt("afterwards")
		},
	},
	{
		name: "cancel and destroy, counted",
		before: func(w *witness) {
			w.createAES()
			w.bulk(25, 3000)
			w.encrypt("before")
			w.encrypt("and again, beyond what a key has from the beginning")
		},
		act: func(w *witness) {
			w.midSweep(func() {
				w.put("bulk/1", "under the new key")
				w.encrypt("under the new key")
				w.act("cancel", "rolled_back")
			})
			advance(time.Second)
			w.rotate()
			advance(time.Second)
			w.destroy(1, true)
			w.destroy(2, true)
		},
	},
	{
		name: "shred, counted",
		before: func(w *witness) {
			w.createAES()
			w.bulk(15, 3000)
		},
		act: func(w *witness) {
			w.put("bulk/1", "once more")
			w.rotate()
			w.deleteTenant("0")
			w.createAES()
			w.put("bulk/1", "of the new tenant")
			w.put("bulk/1", "again")
		},
	},
}

func TestEveryCrashPointCounted(t *testing.T) { atEveryPoint(t, countedScenarios) }
