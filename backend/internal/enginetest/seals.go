// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
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

// LimitSeals sets other limits, and has the disk count what is truly sealed.
func (m *Mount) LimitSeals(l keystore.SealLimits) {
	l.Sealing = func(incarnation, keyID string) { m.Disk.Note(incarnation + "/" + keyID) }
	m.Engine.Keys.LimitSeals(l)
}

// CreateAES creates the tenant with keys whose seals are counted.
func (w *Oracle) CreateAES() {
	w.Do(Update, TenantPath(""), map[string]any{"key_type": "aes256-gcm"}, func(w *Oracle, _ *logical.Response) { w.Created = true })
}

// Counted checks that no key has sealed more than an engine that starts now on
// what is on disk would say, behind the cache as it is and without one; and that
// there is no count of keys that are gone.
func (w *Oracle) Counted() {
	w.T.Helper()
	if !w.recorded() {
		return
	}
	rec := w.Record()
	var counts []string
	for _, v := range rec.Keys.Versions {
		if v.KeyType != keyring.AES256GCM || v.State == keyring.Destroyed {
			continue
		}
		counts = append(counts, "seals/"+rec.Incarnation+"/"+v.KeyID)
		w.countedVersion(rec, v)
	}
	require.Subset(w.T, counts, w.Disk.Keys("seals/"+rec.Incarnation+"/"), "counts of keys that are gone")
}

func (w *Oracle) countedVersion(rec *tenant.Record, v keyring.Version) {
	w.T.Helper()
	for _, cached := range []bool{true, false} {
		disk := w.Disk.Clone()
		if !cached {
			disk.RestartVault()
		}
		fresh := keystore.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)), time.Now, nil)
		fresh.LimitSeals(fewSeals)
		shown, err := fresh.Seals(context.Background(), rec.Owner(), &v, true)
		require.NoError(w.T, err)
		page := rec.Incarnation + "/" + v.KeyID
		for key, n := range map[string]int64{page: shown.Page, page + ".ext": shown.External} {
			if disk.Value("keys/"+key) != nil { // else it is being destroyed
				require.GreaterOrEqual(w.T, n, int64(disk.Noted(key)), "seals of %s", key)
			}
		}
	}
}
