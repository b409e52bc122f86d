// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// TestEvidenceOfRandomFaults rotates, imports, shreds and creates tenants, and cancels,
// while operations of storage fail and the process dies at any of them, until
// EVIDENCE_CHANGES rotations, imports and shreddings were acknowledged. Then the log is
// verified as an auditor does, and has the end of each rotation. EVIDENCE_SEED is the seed.
func TestEvidenceOfRandomFaults(t *testing.T) {
	enginetest.InOrder(t)
	few := 200
	if enginetest.UnderRace {
		few = 15
	}
	seed, changes := number(t, "EVIDENCE_SEED", 1), number(t, "EVIDENCE_CHANGES", few)
	cryptotest.SetGlobalRandom(t, uint64(seed))
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty(t, uint64(seed))
		for len(f.rotations)+f.shreddings < changes {
			f.step()
		}
		f.settle()
		entries := f.check()
		f.Close()
		t.Logf("%d rotations, of which %d imports, and %d shreddings; %d faults, of which the process died of %d: %d entries, and the log verifies (EVIDENCE_SEED=%d)",
			len(f.rotations), len(f.imported), f.shreddings, f.faults, f.deaths, entries, seed)
	})
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// faulty is a mount of some tenants to which everything happens.
type faulty struct {
	*enginetest.Mount
	random *rand.Rand
	owners *rsa.PublicKey

	rotations  map[string]string // acknowledged, imports included: the tenant, by ID
	imported   []string          // the IDs of keys whose import was acknowledged
	shreddings int               // acknowledged
	faults     int
	deaths     int
}

const faultyTenants = 6

func newFaulty(t *testing.T, seed uint64) *faulty {
	t.Helper()
	f := &faulty{Mount: enginetest.NewMount(t), random: rand.New(rand.NewPCG(seed, 7)), rotations: map[string]string{}}
	f.DestroyAtOnce()
	f.Must(enginetest.Update, "config", map[string]any{"manual_rotations_per_hour": 0})
	f.owners = f.PublicKey()
	for n := range faultyTenants {
		f.create(enginetest.TenantN(n))
	}
	return f
}

// create creates a tenant with an item and a ciphertext outside, as far as that succeeds.
func (f *faulty) create(tenant string) {
	_, _ = f.Call(enginetest.Update, "tenants/"+tenant, nil)
	_, _ = f.Call(enginetest.Update, "tenants/"+tenant+"/secrets/a", enginetest.Secret("v"))
	if f.random.IntN(4) == 0 {
		_, _ = f.Call(enginetest.Update, "tenants/"+tenant+"/encrypt", map[string]any{"plaintext": "c2VjcmV0"})
	}
}

// step changes some tenants, mostly while a fault waits for one of the next operations of
// storage.
func (f *faulty) step() {
	fault := []storagetest.Fault{
		storagetest.None, storagetest.None, storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.Gone,
	}[f.random.IntN(6)]
	before := f.Storage.Ops()
	n := 1 + f.random.IntN(60)
	f.Storage.FailNext(n, fault)
	for range 1 + f.random.IntN(3) {
		f.change(enginetest.TenantN(f.random.IntN(faultyTenants)))
	}
	enginetest.Advance([]time.Duration{time.Microsecond, time.Millisecond, time.Second, time.Minute}[f.random.IntN(4)])
	struck := fault != storagetest.None && f.Storage.Ops()-before >= n
	if struck {
		f.faults++
	}
	if struck && fault == storagetest.Gone || f.random.IntN(50) == 0 {
		f.deaths++
		f.restart()
	}
	f.Storage.FailNext(0, storagetest.None)
}

// restart ends the process, and perhaps Vault's with it.
func (f *faulty) restart() {
	f.Crash()
	if f.random.IntN(2) == 0 {
		f.Disk.RestartVault()
	}
	f.Mount = enginetest.OpenMount(f.T, f.Disk, 0, storagetest.None)
	synctest.Wait()
}

func (f *faulty) change(tenant string) {
	path := "tenants/" + tenant
	switch n := f.random.IntN(100); {
	case n < 55:
		f.rotates(tenant, path+"/dek/rotate", map[string]any{"reason": "a reason"})
	case n < 70:
		key := sha256.Sum256(binary.BigEndian.AppendUint64(nil, f.random.Uint64()))
		body := map[string]any{"ciphertext": enginetest.Wrapped(f.T, f.owners, sha256.New(), key[:])}
		if data := f.rotates(tenant, path+"/dek/import", body); data != nil {
			f.imported = append(f.imported, data["new_key_id"].(string))
		}
	case n < 85:
		if _, err := f.Call(enginetest.Delete, path, map[string]any{"deletion_window": 0}); err == nil {
			f.shreddings++
		}
		f.create(tenant)
	case n < 92:
		f.create(tenant)
		if listed, err := f.Call(logical.ListOperation, path+"/dek/rotations", nil); err == nil {
			if ids, _ := listed.Data["keys"].([]string); len(ids) > 0 {
				_, _ = f.Call(enginetest.Update, path+"/dek/rotations/"+ids[0]+"/cancel", nil)
			}
		}
	case n < 95:
		_, _ = f.Call(enginetest.Update, "evidence/key/rotate", nil)
	case n < 97:
		_, _ = f.Call(enginetest.Update, "kek/rotate", nil)
	default:
		_, _ = f.Call(enginetest.Update, path, map[string]any{"rotation_interval": []string{"90_DAYS", "180_DAYS"}[f.random.IntN(2)]})
	}
}

// rotates starts a rotation, and returns it if that was acknowledged.
func (f *faulty) rotates(tenant, path string, body map[string]any) map[string]any {
	resp, err := f.Call(enginetest.Update, path, body)
	if err != nil || resp.IsError() {
		return nil
	}
	f.rotations[resp.Data["rotation_id"].(string)] = tenant
	return resp.Data
}

// settle lets everything come to its end, in a new process.
func (f *faulty) settle() {
	f.restart()
	for n := 0; ; n++ {
		enginetest.Advance(15 * time.Minute)
		f.Tick()
		enginetest.Advance(time.Minute)
		unfinished := f.Must(logical.ListOperation, "rotations", nil)["keys"]
		if unfinished == nil && f.Must(enginetest.Read, "status", nil)["evidence_pending"] == 0 {
			return
		}
		require.Less(f.T, n, 100, "it does not come to an end: %v", unfinished)
	}
}

// check verifies the log, holds it against what was acknowledged and what the mount says,
// and returns how many entries it has.
func (f *faulty) check() (entries int) {
	started, ended := map[string]string{}, map[string]string{} // by rotation: the incarnation, the type
	shredded, imported := map[string]bool{}, map[string]bool{}
	for _, events := range f.Events() {
		entries += len(events)
		for _, e := range events {
			switch d := e.Detail.(type) {
			case *evidence.RotationStarted:
				started[d.RotationID] = e.Incarnation
			case *evidence.RotationCompleted:
				ended[d.RotationID] = e.Type()
			case *evidence.RotationRolledBack:
				ended[d.RotationID] = e.Type()
			case *evidence.RotationFailed:
				ended[d.RotationID] = e.Type()
			case *evidence.TenantShredded:
				shredded[e.Incarnation] = true
			case *evidence.KeyImported:
				imported[d.KeyID] = true
			}
		}
	}
	for id := range f.rotations {
		require.Contains(f.T, started, id, "an acknowledged rotation")
	}
	for id, incarnation := range started {
		if ended[id] == "" {
			require.True(f.T, shredded[incarnation], "rotation %s has an end, or its tenant has", id)
		}
	}
	for _, keyID := range f.imported {
		require.Contains(f.T, imported, keyID, "an acknowledged import")
	}
	require.GreaterOrEqual(f.T, len(shredded), f.shreddings)
	for _, stone := range f.Disk.Keys("tombstones/") {
		require.True(f.T, shredded[stone[strings.LastIndex(stone, ".")+1:]], stone)
	}
	for n := range faultyTenants {
		if _, err := f.Call(enginetest.Read, "tenants/"+enginetest.TenantN(n), nil); err != nil {
			continue // it was shredded
		}
		for _, r := range f.RotationsOf(enginetest.TenantN(n)) {
			id, status := r["rotation_id"].(string), r["status"].(string)
			require.Equal(f.T, "rotation-"+strings.ReplaceAll(status, "_", "-"), ended[id], "the end of %s", id)
		}
	}
	return entries
}
