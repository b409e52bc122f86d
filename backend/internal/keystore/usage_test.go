// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// sealing is a store on a disk, and a version whose page key it seals with.
type sealing struct {
	*Store
	t       *testing.T
	storage *storagetest.Storage
	owner   keyring.Owner
	ring    keyring.Ring
}

var fewSeals = SealLimits{First: 2, Largest: 8, Soft: 20, Hard: 40}

func newSealing(t *testing.T, disk *storagetest.Disk, kt keyring.KeyType) *sealing {
	t.Helper()
	s := openSealing(t, disk, kt)
	require.NoError(t, s.CreateKey(context.Background(), "", s.owner.Binding("dek-1", kt, keyring.PageKey)))
	return s
}

func openSealing(t *testing.T, disk *storagetest.Disk, kt keyring.KeyType) *sealing {
	t.Helper()
	entries := storagetest.Open(disk, 0, storagetest.None)
	s := NewStore(storage.NewMount(entries), time.Now, nil)
	s.LimitSeals(fewSeals)
	owner := keyring.Owner{Tenant: "t", Incarnation: "i"}
	return &sealing{s, t, entries, owner, keyring.NewRing("dek-1", kt, time.Time{})}
}

// seal seals until it fails, n times at most, and returns how often it did not.
func (s *sealing) seal(n int) (did int, err error) {
	s.t.Helper()
	a, err := s.PageAEAD(context.Background(), s.owner, s.ring.Active())
	require.NoError(s.t, err)
	for did < n {
		if _, err := a.Seal(nil, nil); err != nil {
			return did, err
		}
		did++
	}
	return did, nil
}

func (s *sealing) shown() int64 {
	s.t.Helper()
	got, err := s.Seals(context.Background(), s.owner, s.ring.Active(), false)
	require.NoError(s.t, err)
	require.Zero(s.t, got.External)
	return got.Page
}

// writes counts the reservations.
func (s *sealing) writes() (n int) {
	for _, op := range s.storage.Log() {
		if strings.HasPrefix(op, "put seals/") {
			n++
		}
	}
	return n
}

// What is shown while a process runs is exact, what a fresh one shows is what was
// reserved, and reservations grow.
func TestSealsAreReservedInGrowingBlocks(t *testing.T) {
	for _, c := range []struct {
		seals, writes int
		fresh         int64
	}{
		{0, 0, 2}, {1, 0, 2}, {2, 0, 2}, // by being made
		{3, 1, 6}, {6, 1, 6}, // 4 more
		{7, 2, 14}, {14, 2, 14}, // 8 more
		{15, 3, 22}, {22, 3, 22}, {23, 4, 30}, // and 8 more, each time
	} {
		disk := storagetest.NewDisk()
		s := newSealing(t, disk, keyring.AES256GCM)
		did, err := s.seal(c.seals)
		require.NoError(t, err)
		require.Equal(t, c.seals, did)
		require.Equal(t, c.writes, s.writes(), "after %d seals", c.seals)
		require.EqualValues(t, c.seals, s.shown())
		again := openSealing(t, disk, keyring.AES256GCM)
		require.Equal(t, c.fresh, again.shown(), "after %d seals", c.seals)

		_, err = again.seal(1)
		require.NoError(t, err)
		require.Equal(t, c.fresh+1, again.shown(), "it began at what was reserved")
	}
}

func TestOtherKeyTypesAreNotCounted(t *testing.T) {
	s := newSealing(t, storagetest.NewDisk(), keyring.XAES256GCM)
	_, err := s.seal(1)
	require.NoError(t, err)
	before := s.storage.Ops()
	did, err := s.seal(1000)
	require.NoError(t, err)
	require.Equal(t, 1000, did)
	require.Zero(t, s.shown())
	require.Equal(t, before, s.storage.Ops())
	require.NoError(t, s.ForgetSeals(context.Background(), "i", *s.ring.Active()))
	worn, err := s.IsOverLimit(context.Background(), s.owner, s.ring.Active())
	require.NoError(t, err)
	require.False(t, worn)
	require.Equal(t, before, s.storage.Ops())
}

// A reservation that failed grants nothing, whether it took effect or not, and
// whatever the cache shows.
func TestFailedReservationGrantsNothing(t *testing.T) {
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale} {
		for _, op := range []string{"get", "put"} {
			t.Run(fault.String()+" "+op, func(t *testing.T) {
				disk := storagetest.NewDisk()
				s := newSealing(t, disk, keyring.AES256GCM)
				s.LimitSeals(SealLimits{First: 2, Largest: 8, Soft: 1 << 31, Hard: 1 << 32})
				did, err := s.seal(2)
				require.NoError(t, err)
				for range 3 {
					s.storage.Fail(func(name, key string) storagetest.Fault {
						if name == op && strings.HasPrefix(key, sealsPrefix) {
							return fault
						}
						return storagetest.None
					})
					n, err := s.seal(1)
					require.ErrorIs(t, err, storagetest.ErrInjected)
					require.Zero(t, n)
					s.storage.Fail(nil)
					n, err = s.seal(5)
					require.NoError(t, err)
					did += n
					for _, cached := range []bool{true, false} {
						left := disk.Clone()
						if !cached {
							left.RestartVault()
						}
						require.GreaterOrEqual(t, openSealing(t, left, keyring.AES256GCM).shown(), int64(did))
					}
					n, err = s.seal(int(left(s))) // so that the next one reserves
					require.NoError(t, err)
					did += n
				}
			})
		}
	}
}

// left is how many seals are reserved and not made.
func left(s *sealing) int64 {
	c, _ := s.seals.counters.Peek("dek-1")
	return max(0, c.left.Load())
}

func TestKeySealsNoMoreThanItsLimit(t *testing.T) {
	disk := storagetest.NewDisk()
	s := newSealing(t, disk, keyring.AES256GCM)
	worn := func(s *sealing) bool {
		got, err := s.IsOverLimit(context.Background(), s.owner, s.ring.Active())
		require.NoError(t, err)
		return got
	}
	_, err := s.seal(14)
	require.NoError(t, err)
	require.Empty(t, s.OverLimit())
	require.False(t, worn(s))
	_, err = s.seal(1) // the reservation passes 20
	require.NoError(t, err)
	require.Equal(t, map[string]string{"t": "dek-1"}, s.OverLimit())
	require.True(t, worn(s))

	did, err := s.seal(100)
	require.ErrorIs(t, err, ErrExhausted)
	require.Equal(t, 40-15, did)
	require.EqualValues(t, 40, s.shown())

	again := openSealing(t, disk, keyring.AES256GCM)
	require.Empty(t, again.OverLimit())
	did, err = again.seal(1)
	require.ErrorIs(t, err, ErrExhausted)
	require.Zero(t, did)
	require.Equal(t, map[string]string{"t": "dek-1"}, again.OverLimit(), "a refusal tells, too")
	again.ForgetOverLimit("t", "dek-2")
	require.Len(t, again.OverLimit(), 1)
	again.ForgetOverLimit("t", "dek-1")
	require.Empty(t, again.OverLimit())
}

// The page key and the external key of a version count apart.
func TestKeysOfAVersionCountApart(t *testing.T) {
	ctx, disk := context.Background(), storagetest.NewDisk()
	s := newSealing(t, disk, keyring.AES256GCM)
	v := s.ring.Active()
	require.NoError(t, s.MakeExternalKey(ctx, s.owner, "", v))
	external, err := s.ExternalKey(ctx, s.owner, v)
	require.NoError(t, err)
	for range 3 {
		_, err := external.Seal(nil, nil)
		require.NoError(t, err)
	}
	_, err = s.seal(7)
	require.NoError(t, err)
	got, err := s.Seals(ctx, s.owner, v, true)
	require.NoError(t, err)
	require.Equal(t, Seals{Page: 7, External: 3}, got)
	got, err = openSealing(t, disk, keyring.AES256GCM).Seals(ctx, s.owner, v, true)
	require.NoError(t, err)
	require.Equal(t, Seals{Page: 14, External: 6}, got)

	require.Len(t, disk.Keys(sealsPrefix), 1)
	require.NoError(t, s.ForgetSeals(ctx, "i", *v))
	require.Empty(t, disk.Keys(sealsPrefix))
}

// A counter may be forgotten while its key is in use, and there may be several:
// in one process, and in a leader that does not know yet that it is none.
func TestCountersDoNotShareWhatTheyReserve(t *testing.T) {
	const sealers, each = 4, 200
	disk := storagetest.NewDisk()
	stores := []*sealing{newSealing(t, disk, keyring.AES256GCM), openSealing(t, disk, keyring.AES256GCM)}
	var total atomic.Int64
	for _, s := range stores {
		s.LimitSeals(SealLimits{First: 2, Largest: 8, Soft: 1 << 31, Hard: 1 << 32})
		for range 3 {
			var wg sync.WaitGroup
			for range sealers {
				wg.Go(func() {
					did, err := s.seal(each)
					assert.NoError(t, err)
					total.Add(int64(did))
				})
			}
			s.seals.counters.Remove("dek-1")
			wg.Wait()
			s.keys.drop()
			s.seals.counters.Remove("dek-1")
		}
	}
	require.EqualValues(t, len(stores)*3*sealers*each, total.Load())
	require.GreaterOrEqual(t, openSealing(t, disk, keyring.AES256GCM).shown(), total.Load())
	did, err := stores[0].seal(1)
	require.NoError(t, err)
	require.GreaterOrEqual(t, openSealing(t, disk, keyring.AES256GCM).shown(), total.Load()+int64(did))
}

func BenchmarkSeal(b *testing.B) {
	for _, kt := range []keyring.KeyType{keyring.XAES256GCM, keyring.AES256GCM} {
		s := NewStore(storage.NewMount(storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)), time.Now, nil)
		key, err := keyring.NewAEAD(kt, make([]byte, keyring.KeySize))
		require.NoError(b, err)
		binding := keyring.Binding{Owner: keyring.Owner{Tenant: "t", Incarnation: "i"}, KeyID: "dek-1", KeyType: kt}
		for name, a := range map[string]keyring.AEAD{"bare": key, "counted": s.counted(binding, key)} {
			b.Run(string(kt)+" "+name, func(b *testing.B) {
				plaintext := make([]byte, 64)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						_, _ = a.Seal(plaintext, nil)
					}
				})
			})
		}
	}
}
