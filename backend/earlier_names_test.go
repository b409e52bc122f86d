// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// earlier makes of what is stored what an earlier version has stored: the name and the
// email with each record, rotation and campaign, and nobody among the people.
func earlier(disk *storagetest.Disk) {
	const bare, whole = `{"id":"sub-1"}`, `{"id":"sub-1","name":"Jo Doe","email":"jo@example.com"}`
	for _, key := range disk.Keys("") {
		switch {
		case strings.HasPrefix(key, "evidence/people/"), strings.HasPrefix(key, "evidence/person_ids/"):
			disk.Set(key, nil)
		case strings.HasPrefix(key, "tombstones/"): // which never named anybody
		default:
			disk.Set(key, bytes.ReplaceAll(disk.Value(key), []byte(bare), []byte(whole)))
		}
	}
}

// prepared is a mount of an earlier version on which the person did everything, and then
// what last does.
func prepared(t *testing.T, last func(p member)) (disk *storagetest.Disk) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		disk = storagetest.NewDisk()
		disk.Set("config", []byte(`{"min_deletion_window":0}`))
		p := openFor(t, disk)
		p.doesEverything()
		last(p)
		p.Crash()
		earlier(disk)
		kinds := map[string]bool{}
		for _, key := range named(disk) {
			kind, _, _ := strings.Cut(key, "/")
			kinds[kind] = true
		}
		require.Equal(t, map[string]bool{"tenants": true, "history": true, "kek": true, "settings": true}, kinds)
	})
	return disk
}

func nothingMore(member) {}

// movesKeys leaves a rotation of the mount's KEK and one of a tenant's own unfinished.
func (p member) movesKeys() {
	p.T.Helper()
	p.Storage.Fail(enginetest.FailOn("put", "keys/", storagetest.Before))
	for _, path := range []string{"kek", "tenants/" + enginetest.TenantN(0) + "/kek"} {
		p.does(enginetest.Update, path+"/rotate", nil)
		enginetest.Advance(time.Second)
		require.Equal(p.T, "in_progress", p.Must(enginetest.Read, path, nil)["status"])
	}
}

// Names that an earlier version has stored move to where they are erased, soon after the
// start, and show throughout.
func TestNamesOfAnEarlierVersionMove(t *testing.T) {
	for name, last := range map[string]func(member){
		"everything has ended":          nothingMore,
		"keys move to other KEKs still": member.movesKeys,
	} {
		t.Run(name, func(t *testing.T) {
			disk := prepared(t, last)
			synctest.Test(t, func(t *testing.T) {
				p := openFor(t, disk)
				defer func() { p.Close() }()
				p.says(known)
				enginetest.Advance(5 * time.Minute)
				p.Tick()
				enginetest.Advance(time.Minute)
				p.says(known)
				require.Len(t, named(disk), 1, "moved")
				require.True(t, strings.HasPrefix(named(disk)[0], "evidence/people/person-"))
				p.Must(enginetest.Delete, "evidence/people/sub-1", nil)
				require.Empty(t, named(disk))
				p.says(erased)
			})
		})
	}
}

// Wherever the move breaks off, and whatever fails, another start ends it. An erasure that
// was answered in between holds.
func TestNamesMoveAfterACrash(t *testing.T) {
	whole := prepared(t, nothingMore)
	move := func(t *testing.T, p member) {
		enginetest.Advance(5 * time.Minute)
		p.Tick()
		enginetest.Advance(time.Minute)
	}
	var writes []int
	synctest.Test(t, func(t *testing.T) {
		p := openFor(t, whole.Clone())
		move(t, p)
		for n, op := range p.Storage.Log() {
			if !strings.HasPrefix(op, "get ") && !strings.HasPrefix(op, "list ") {
				writes = append(writes, n+1)
			}
		}
		p.Close()
	})
	require.Greater(t, len(writes), 8)
	for i, n := range writes {
		for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.AfterStale, storagetest.Gone} {
			if enginetest.UnderRace && (i+int(fault))%8 != 0 {
				continue
			}
			disk := whole.Clone()
			synctest.Test(t, func(t *testing.T) {
				m := enginetest.Conditions{System: people{}}.Open(t, disk, n, fault)
				m.Start()
				p := member{m}
				move(t, p)
				gone := false
				if fault != storagetest.Gone {
					_, err := p.Call(enginetest.Delete, "evidence/people/sub-1", nil)
					gone = err == nil
				}
				p.Crash()
				disk.RestartVault()
				p = openFor(t, disk)
				move(t, p)
				if gone {
					require.Empty(t, named(disk), "operation %d: %s", n, fault)
					p.says(erased)
				} else {
					require.Len(t, named(disk), 1, "operation %d: %s", n, fault)
					p.says(known)
				}
				p.Close()
			})
		}
	}
}
