// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package admission

import (
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const mib = 1 << 20

// admitted counts the requests of one size that a tenant gets in.
func admitted(t *testing.T, b *Bound, whose string, bytes int) (n int) {
	t.Helper()
	for {
		if _, err := b.Admit(whose, bytes); err != nil {
			require.ErrorIs(t, err, BusyError{})
			return n
		}
		n++
	}
}

func TestTenantsShareTheBound(t *testing.T) {
	b := New(120 * mib)
	require.Equal(t, 60, admitted(t, b, "a", mib), "one tenant gets half")
	require.Equal(t, 30, admitted(t, b, "b", mib), "the next half of what is left")
	release, err := b.Admit("c", 29*mib)
	require.NoError(t, err, "and there is room for one that comes new")
	release()
	release() // again: it has no effect
	require.Equal(t, 15, admitted(t, b, "c", mib))
	require.Zero(t, admitted(t, b, "a", mib))
}

// Of two tenants that ask in turn each gets a third.
func TestTenantsThatAskInTurn(t *testing.T) {
	b := New(120 * mib)
	in := map[string]int{}
	for range 120 {
		for _, who := range []string{"a", "b"} {
			if _, err := b.Admit(who, mib); err == nil {
				in[who]++
			}
		}
	}
	require.Equal(t, map[string]int{"a": 40, "b": 40}, in)
}

func TestWhatIsAlwaysTaken(t *testing.T) {
	b := New(64 * mib)
	for _, who := range []string{"a", "b"} {
		_, err := b.Admit(who, 32*mib)
		require.NoError(t, err, "the largest request that Vault takes")
	}
	_, err := b.Admit("c", small+1)
	require.Error(t, err)
	for range 1000 {
		release, err := b.Admit("a", small)
		require.NoError(t, err)
		release()
	}
}

// Whatever is taken and released, by however many: the bound holds, and nothing is left.
func TestTheBoundHolds(t *testing.T) {
	b := New(100 * mib)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 2000 {
				release, err := b.Admit(strconv.Itoa(random.IntN(4)), random.IntN(20*mib))
				b.mu.Lock()
				used := b.used
				b.mu.Unlock()
				if used < 0 || used > b.bytes {
					t.Errorf("%d bytes in flight", used)
				}
				if err == nil {
					release()
				}
			}
		})
	}
	all.Wait()
	require.Zero(t, b.used)
	require.Empty(t, b.byWhom)
}

func TestBoundOfAMachine(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct{ memory, limit, want int64 }{
		{0, math.MaxInt64, 64 * mib},
		{2 * gib, math.MaxInt64, 64 * mib},
		{16 * gib, math.MaxInt64, 256 * mib},
		{512 * gib, math.MaxInt64, gib},
		{16 * gib, 2 * gib, 128 * mib},
		{16 * gib, 100 * mib, 64 * mib},
		{0, 16 * gib, 64 * mib},
	} {
		require.Equal(t, c.want, int64(bound(c.memory, c.limit)), "%+v", c)
	}
}

// An answer that grows takes room by the rule of requests, and gives all of it back. What
// it has already does not count against it.
func TestAnswersTakeRoomAsTheyGrow(t *testing.T) {
	b := New(64 * mib)
	large := b.Grant("a")
	for range 48 {
		require.NoError(t, large.More(mib))
	}
	second := b.Grant("a")
	require.NoError(t, second.More(small), "a small answer is always taken")
	require.ErrorIs(t, second.More(17*mib), BusyError{})
	other := b.Grant("b")
	require.NoError(t, other.More(15*mib), "another tenant has its part")
	require.ErrorIs(t, other.More(2*mib), BusyError{})
	large.Release()
	large.Release() // again: it has no effect
	require.NoError(t, other.More(2*mib), "what was refused counts for nothing")
	other.Release()
	second.Release()
	require.Zero(t, b.used)
	require.Empty(t, b.byWhom)
}
