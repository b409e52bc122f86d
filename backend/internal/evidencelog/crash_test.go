// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// acknowledged is what callers were told: where each event is, and what was shown there.
type acknowledged map[string]shown

type shown struct {
	position evidencelog.Position
	leaf     [sha256.Size]byte
}

// events is how many the scenario logs.
const events = 12

// submit logs events one request after the other, and notes what is acknowledged.
func submit(ctx context.Context, p *process, acks acknowledged, requests [][]evidencelog.Pending) {
	for _, request := range requests {
		at, err := p.Append(ctx, request...)
		if err != nil {
			return
		}
		for i, e := range request {
			leaf, err := p.Entry(ctx, at[i].Index)
			for tries := 0; err != nil && tries < 3; tries++ { // a read that failed tells its caller
				leaf, err = p.Entry(ctx, at[i].Index)
			}
			if err != nil {
				return
			}
			acks[e.Event.EventID] = shown{at[i], sha256.Sum256(leaf)}
		}
	}
}

// requests are what the scenario logs: of one tenant, of two, of the mount, large ones,
// and a new signing key between them.
func requests(isNew bool) [][]evidencelog.Pending {
	large := func(tenant, seq int) evidence.Event {
		e := event(tenant, seq)
		e.RequestID = fmt.Sprintf("%01000d", seq)
		return e
	}
	all := [][]evidencelog.Pending{
		{pending(event(1, 1), isNew)},
		{pending(event(1, 2), isNew), pending(event(2, 1), isNew), pending(mountEvent(1), isNew)},
	}
	var many []evidencelog.Pending
	for seq := range 6 {
		many = append(many, pending(large(3, seq+1), isNew))
	}
	all = append(all, many)
	return append(all, []evidencelog.Pending{pending(event(1, 3), isNew), pending(mountEvent(2), isNew)})
}

func rotationHead() evidence.Head {
	return evidence.Head{Actor: "person-9", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// scenario logs everything, with a new key after the second request.
func scenario(ctx context.Context, p *process, acks acknowledged) {
	all := requests(true)
	submit(ctx, p, acks, all[:2])
	if _, err := p.RotateKey(ctx, rotationHead()); err != nil {
		return
	}
	submit(ctx, p, acks, all[2:])
}

// afterwards starts another process on what is left, repeats every request, and checks
// that each event is in the log once, and where it was acknowledged.
func afterwards(t *testing.T, disk *storagetest.Disk, acks acknowledged, all *signed) {
	t.Helper()
	s := storagetest.Open(disk, 0, storagetest.None)
	p := start(t, s, all.record(s))
	again := acknowledged{}
	submit(t.Context(), p, again, requests(false))
	for id, before := range acks {
		require.Equal(t, before, again[id])
	}
	mine := 0
	for _, e := range check(t, p) {
		if _, ok := e.Detail.(*evidence.LogKeyRotated); !ok && e.Type() != evidence.TypeLogStarted {
			mine++
		}
	}
	require.Len(t, again, events)
	require.Equal(t, events, mine)
	all.arePrefixes(t, p)
	p.end()
}

// crashes are the ways in which an operation fails, and whether the process dies then.
var crashes = []struct {
	fault storagetest.Fault
	dies  bool
}{
	{storagetest.Before, false},
	{storagetest.After, false},
	{storagetest.AfterStale, false},
	{storagetest.Gone, false},
	{storagetest.After, true},
	{storagetest.AfterStale, true},
}

func TestEveryCrashPointOfTheLog(t *testing.T) {
	var operations int
	synctest.Test(t, func(t *testing.T) {
		s := storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)
		p := start(t, s, nil)
		acks := acknowledged{}
		scenario(t.Context(), p, acks)
		require.Len(t, acks, events)
		require.Len(t, check(t, p), events+2)
		p.end()
		operations = s.Ops()
	})
	points := 0
	for n := 1; n <= operations; n++ {
		for _, crash := range crashes {
			points++
			synctest.Test(t, func(t *testing.T) {
				disk := storagetest.NewDisk()
				s := storagetest.Open(disk, 0, storagetest.None)
				op := 0
				s.Fail(func(string, string) storagetest.Fault {
					op++
					switch {
					case op == n:
						return crash.fault
					case op > n && crash.dies:
						return storagetest.Gone
					}
					return storagetest.None
				})
				var all signed
				p := start(t, s, all.record(s))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				acks := acknowledged{}
				scenario(ctx, p, acks)
				p.end()
				if crash.fault != storagetest.Gone && !crash.dies {
					require.Len(t, acks, events, "operation %d: %s", n, crash.fault)
				}
				afterwards(t, disk, acks, &all)
			})
			if t.Failed() {
				t.Fatalf("operation %d of %d: %s, dies: %v", n, operations, crash.fault, crash.dies)
			}
		}
	}
	t.Logf("%d crash points", points)
}

// Random faults, several in a run, with restarts between.
func TestRandomFaultsOfTheLog(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64)
	if err != nil {
		seed = 1
	}
	for run := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, run))
			disk := storagetest.NewDisk()
			acks := acknowledged{}
			var all signed
			for range 4 {
				s := storagetest.Open(disk, 0, storagetest.None)
				deadline := random.IntN(80)
				ops := 0
				s.Fail(func(string, string) storagetest.Fault {
					ops++
					if ops > deadline {
						return storagetest.Gone
					}
					if random.IntN(4) == 0 {
						return storagetest.Fault(random.IntN(4))
					}
					return storagetest.None
				})
				p := start(t, s, all.record(s))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				before := acknowledged{}
				submit(ctx, p, before, requests(false))
				for id, was := range before {
					if earlier, found := acks[id]; found {
						require.Equal(t, earlier, was)
					}
					acks[id] = was
				}
				cancel()
				p.end()
			}
			afterwards(t, disk, acks, &all)
		})
		if t.Failed() {
			t.Fatalf("CRASH_SEED=%d, run %d", seed, run)
		}
	}
}

// A process that dies before the edge is put leaves a log that the next one opens.
func TestNobodyWaitsForTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		s := storagetest.Open(disk, 0, storagetest.None)
		p := start(t, s, nil)
		synctest.Wait() // what the start writes is there, its edge included
		const edges = "evidence/log/000001/edge/"
		before := disk.Keys(edges)
		stalled := make(chan struct{})
		s.Hook(func(op, key string) {
			if op == "put" && strings.HasPrefix(key, edges) {
				<-stalled
			}
		})
		at, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		require.Equal(t, before, disk.Keys(edges))

		next := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		again, err := next.Append(t.Context(), pending(event(1, 1), false))
		require.NoError(t, err)
		require.Equal(t, at, again)
		require.Len(t, check(t, next), 2)
		close(stalled)
		synctest.Wait()
		require.Len(t, check(t, next), 2)
	})
}
