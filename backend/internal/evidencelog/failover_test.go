// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// signed are all checkpoints that were ever signed, by whatever process, stored or not.
type signed struct {
	mu    sync.Mutex
	trees []tlog.Tree
}

// recorder notes each checkpoint as it leaves the process that signed it.
type recorder struct {
	logical.Storage
	signed *signed
}

func (r recorder) Put(ctx context.Context, e *logical.StorageEntry) error {
	if strings.Contains(e.Key, "/checkpoint/") {
		c, err := evidence.ParseCheckpoint(e.Value)
		if err != nil {
			return err
		}
		r.signed.mu.Lock()
		r.signed.trees = append(r.signed.trees, c.Tree)
		r.signed.mu.Unlock()
	}
	return r.Storage.Put(ctx, e)
}

func (all *signed) record(s *storagetest.Storage) func(*evidencelog.Config) {
	return func(c *evidencelog.Config) { c.Storage = storage.NewMount(recorder{s, all}) }
}

// arePrefixes checks that each of them has the root of the log's first entries.
func (all *signed) arePrefixes(t *testing.T, p *process) {
	t.Helper()
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, tree := range all.trees {
		root, err := p.Root(t.Context(), tree.N)
		require.NoError(t, err, "size %d was signed", tree.N)
		require.Equal(t, root.String(), tree.Hash.String(), "size %d was signed with another root", tree.N)
	}
}

// A failover: an instance stops before or after its nth operation, which goes on while
// the next instance works, and lands after the next one's mth. The next one logs other
// events. Every other time it dies between signing its first checkpoint and storing it.
func TestFailoverAtEveryWrite(t *testing.T) {
	writes, after := rehearseFailover(t)
	points := 0
	for n := range writes {
		for m := 0; m <= after; m++ {
			points++
			if enginetest.UnderRace && points%7 != 1 {
				continue // each is tried without the race detector
			}
			synctest.Test(t, func(t *testing.T) { failOver(t, n, m, (n+m)%2 == 0) })
			if t.Failed() {
				t.Fatalf("write %d of the first lands after operation %d of the next", n, m)
			}
		}
	}
	t.Logf("%d failovers", points)
}

// rehearseFailover counts the writes of the first instance, and the operations of the
// next.
func rehearseFailover(t *testing.T) (writes, next int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		s := storagetest.Open(disk, 0, storagetest.None)
		p := start(t, s, nil)
		scenario(t.Context(), p, acknowledged{})
		for _, line := range s.Log() {
			if strings.HasPrefix(line, "put ") {
				writes++
			}
		}
		p.end()
		s = storagetest.Open(disk, 0, storagetest.None)
		p = start(t, s, nil)
		submit(t.Context(), p, acknowledged{}, others(7))
		next = s.Ops()
	})
	return writes, next
}

// others are events of a tenant of their own.
func others(tenant int) [][]evidencelog.Pending {
	return [][]evidencelog.Pending{
		{pending(event(tenant, 1), false), pending(event(tenant, 2), false)}, {pending(event(tenant, 3), false)},
	}
}

// stallAt lets the nth write of a storage wait for release, and reports when it does.
func stallAt(s *storagetest.Storage, n int) (stalled, release chan struct{}) {
	stalled, release = make(chan struct{}), make(chan struct{})
	writes := 0
	var mu sync.Mutex
	s.Hook(func(op, _ string) {
		mu.Lock()
		mine := false
		if op == "put" {
			mine = writes == n
			writes++
		}
		mu.Unlock()
		if mine {
			close(stalled)
			<-release
		}
	})
	return stalled, release
}

func failOver(t *testing.T, n, m int, dies bool) {
	disk := storagetest.NewDisk()
	s := storagetest.Open(disk, 0, storagetest.None)
	var all signed
	first := start(t, s, all.record(s))
	stalled, release := stallAt(s, n)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	acks := acknowledged{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		scenario(ctx, first, acks)
	}()
	synctest.Wait()
	select {
	case <-stalled:
	default: // this run has shared batches that the rehearsal did not
		first.end()
		<-done
		return
	}
	first.stop()
	cancel()

	// The next instance begins while the write is under way.
	s = storagetest.Open(disk, 0, storagetest.None)
	var once sync.Once
	ops := 0
	var mu sync.Mutex
	s.Done(func(string, string) {
		mu.Lock()
		ops++
		reached := ops >= m
		mu.Unlock()
		if reached {
			once.Do(func() { close(release) })
		}
	})
	if dies { // between signing and the Put
		s.Fail(func(op, key string) storagetest.Fault {
			if op == "put" && strings.Contains(key, "/checkpoint/") {
				return storagetest.Gone
			}
			return storagetest.None
		})
	}
	next := start(t, s, all.record(s))
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	submit(ctx, next, acks, others(7))
	once.Do(func() { close(release) })
	<-done
	<-first.done
	next.end()
	s = storagetest.Open(disk, 0, storagetest.None)
	last := start(t, s, all.record(s))
	again := acknowledged{}
	submit(t.Context(), last, again, append(others(7), others(8)...))
	submit(t.Context(), last, again, requests(false))
	check(t, last)
	for id, before := range acks {
		if now, repeated := again[id]; repeated {
			require.Equal(t, before, now, fmt.Sprint(id))
		}
	}
	all.arePrefixes(t, last)
}
