// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// damaged fails each Get of some entries, as Vault does of one that is damaged.
type damaged struct {
	logical.Storage
	is func(key string) bool
}

var errBarrier = errors.New("cipher: message authentication failed")

func (d damaged) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if d.is(key) {
		return nil, errBarrier
	}
	return d.Storage.Get(ctx, key)
}

// startDamaged starts a process to which some entries are damaged.
func startDamaged(t *testing.T, disk *storagetest.Disk, is func(key string) bool) *process {
	t.Helper()
	s := storagetest.Open(disk, 0, storagetest.None)
	return start(t, s, func(c *evidencelog.Config) { c.Storage = storage.NewMount(damaged{s, is}) })
}

// Whatever single entry is damaged, the log goes on within a minute: the same log if the
// entry can be made again or done without, the next log otherwise.
func TestDamagedEntryStopsNobody(t *testing.T) {
	for what, wantLog := range map[string]int64{
		"/checkpoint/": 1, "/edge/": 1, "/tile/": 1, "/chunk/": 1, "/index/": 1,
		"evidence/started": 1, "evidence/keys/": 2,
	} {
		t.Run(strings.Trim(what, "/"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := storagetest.NewDisk()
				p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
				fill(t, p, 2500)
				synctest.Wait()
				p.end()
				last := ""
				for _, key := range disk.Keys("evidence/") {
					if strings.Contains(key, what) {
						last = key
					}
				}
				require.NotEmpty(t, last)
				p = startDamaged(t, disk, func(key string) bool { return key == last })
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				at, err := p.Append(ctx, pending(event(5000, 1), false))
				require.NoError(t, err, "%s is damaged: %v", last, p.reported())
				require.Equal(t, wantLog, at[0].Log)
				again, err := p.Append(ctx, pending(event(5000, 1), false))
				require.NoError(t, err)
				require.Equal(t, at, again)
			})
		})
	}
}

// A log whose right edge is lost is followed by the next, which names it.
func TestNextLogNamesTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		first, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		oldKey, err := p.Key(t.Context())
		require.NoError(t, err)
		_, err = p.Append(t.Context(), pending(event(1, 2), true))
		require.NoError(t, err)
		p.end()

		is := func(key string) bool {
			return strings.HasSuffix(key, "/0000000000000003") || strings.Contains(key, "-0000000000000003-")
		}
		p = startDamaged(t, disk, is)
		at, err := p.Append(t.Context(), pending(event(1, 3), true))
		require.NoError(t, err)
		require.Equal(t, evidencelog.Position{Log: 2, Index: 1, Seq: 3}, at[0])
		require.ErrorIs(t, errors.Join(p.reported()...), evidencelog.ErrNewLog)
		leaf, err := p.Entry(t.Context(), 0)
		require.NoError(t, err)
		e, err := evidence.Decode(leaf)
		require.NoError(t, err)
		c, err := evidence.OpenCheckpoint(first, oldKey.VKey)
		require.NoError(t, err)
		require.Equal(t, &evidence.Tree{Origin: c.Origin, Size: 2, RootHash: c.Hash.String()},
			e.Detail.(*evidence.LogStarted).PreviousLog)
		key, err := p.Key(t.Context())
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(key.Origin, "/2"))
		_, err = p.Check(t.Context(), first)
		require.ErrorIs(t, err, witnesses.ErrOtherLog)
		require.ErrorContains(t, err, "it is of log 1 of this mount, which log 2 has followed")
		p.end()

		// It is found again, and does not begin a third time.
		p = startDamaged(t, disk, is)
		at, err = p.Append(t.Context(), pending(event(1, 4), true))
		require.NoError(t, err)
		require.Equal(t, evidencelog.Position{Log: 2, Index: 2, Seq: 4}, at[0])
	})
}

// While all of storage is out of reach, nothing is taken for damaged.
func TestOutageIsNoDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		p.end()
		s := storagetest.Open(disk, 0, storagetest.None)
		s.Outage(storagetest.ErrInjected, true)
		p = start(t, s, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err = p.Append(ctx, pending(event(1, 2), true))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		s.Outage(nil, false)
		at, err := p.Append(t.Context(), pending(event(1, 2), false))
		require.NoError(t, err)
		require.EqualValues(t, 1, at[0].Log)
		require.Len(t, check(t, p), 3)
	})
}

// A chunk that is completed makes the edge anew. The next checkpoint is opened with it, also
// where an entry is damaged that it would have to be made from again.
func TestCompletedChunkBesideADamagedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		appendEach(t, p, 5)
		p.end()

		s := storagetest.Open(disk, 0, storagetest.None)
		gone := false
		s.Fail(func(op, key string) storagetest.Fault {
			switch {
			case gone:
				return storagetest.Gone
			case op == "put" && strings.Contains(key, "/chunk/"):
				gone = true
				return storagetest.After
			}
			return storagetest.None
		})
		p = start(t, s, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := p.Append(ctx, pending(event(1, 6), true))
		require.Error(t, err)
		p.end()

		p = startDamaged(t, disk, func(key string) bool { return strings.Contains(key, "/0000000000000003-0000000000000004-") })
		at, err := p.Append(t.Context(), pending(event(5000, 1), true))
		require.NoError(t, err)
		require.Equal(t, evidencelog.Position{Log: 1, Index: 7, Seq: 1}, at[0])
	})
}
