// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
)

// process is one instance of the engine's log.
type process struct {
	*evidencelog.Log
	*witnesses.Store
	storage *storagetest.Storage
	stop    context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	reports []error
}

func (p *process) reported() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]error(nil), p.reports...)
}

// startedBy says that the binary of a hash starts the log.
func startedBy(sha256 string) func(context.Context) (evidence.LogStarted, error) {
	return func(context.Context) (evidence.LogStarted, error) {
		return evidence.LogStarted{PluginVersion: "v1", PluginSHA256: sha256, VaultVersion: "1.21.1", OrgID: "org"}, nil
	}
}

func start(t *testing.T, s *storagetest.Storage, change func(*evidencelog.Config)) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{storage: s, stop: cancel, done: make(chan struct{})}
	config := evidencelog.Config{
		Storage: storage.NewMount(s), MountUUID: evidencetest.MountUUID,
		Started: startedBy("aa"),
		Report: func(err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.reports = append(p.reports, err)
		},
	}
	if change != nil {
		change(&config)
	}
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	config.Wake = func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	p.Log = evidencelog.New(config)
	p.Store = witnesses.NewStore(p.Log, storage.NewMount(s))
	go func() {
		defer close(p.done)
		for {
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
			if p.Work(ctx) == nil && p.IndexDue() {
				_ = p.BuildIndex(ctx) // ends with the context
			}
		}
	}()
	t.Cleanup(p.end)
	return p
}

// end stops the process, and waits until it has.
func (p *process) end() {
	p.stop()
	<-p.done
}

// tenantID names the nth tenant, and its only incarnation.
func tenantID(n int) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id.String()
}

// event is the seq-th of a tenant.
func event(tenant, seq int) evidence.Event {
	id := tenantID(tenant)
	return evidence.Event{
		Head: evidence.Head{
			EventID: evidence.EventID(id, fmt.Sprint(seq)), Seq: int64(seq), TenantID: id, Incarnation: id,
			Time: time.Date(2026, 1, 1, 0, 0, seq, 0, time.UTC), Actor: evidence.System,
		},
		Detail: &evidence.TenantRestored{},
	}
}

// appendEach logs so many events of tenant 1, each in a batch of its own.
func appendEach(t *testing.T, p *process, count int) {
	t.Helper()
	for seq := range count {
		_, err := p.Append(t.Context(), pending(event(1, seq+1), true))
		require.NoError(t, err)
	}
	synctest.Wait()
}

func pending(e evidence.Event, isNew bool) evidencelog.Pending {
	return evidencelog.Pending{Event: e, New: isNew}
}

func mountEvent(n int) evidence.Event {
	return evidence.Event{
		Head: evidence.Head{
			EventID: evidence.EventID("mount", fmt.Sprint(n)), Actor: evidence.System,
			Time: time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC),
		},
		Detail: &evidence.SettingsChanged{Path: "config"},
	}
}

// check holds a log to what every log must be, and returns its entries.
func check(t *testing.T, p *process) []*evidence.Event {
	t.Helper()
	ctx := t.Context()
	key, err := p.Key(ctx)
	require.NoError(t, err)
	vkeys := append(key.Previous, key.VKey)
	text, err := p.Checkpoint(ctx, 0)
	require.NoError(t, err)
	checkpoint, err := evidence.OpenCheckpoint(text, vkeys...)
	require.NoError(t, err)
	require.Equal(t, p.Size(), checkpoint.N)

	var events []*evidence.Event
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	ids := map[string]bool{}
	last := map[string]*evidence.Event{}
	at := map[string]int64{}
	for i := range checkpoint.N {
		leaf, err := p.Entry(ctx, i)
		require.NoError(t, err)
		more, err := tlog.StoredHashes(i, leaf, reader)
		require.NoError(t, err)
		hashes = append(hashes, more...)
		e, err := evidence.Decode(leaf)
		require.NoError(t, err)
		require.False(t, ids[e.EventID], "entry %d is there twice", i)
		ids[e.EventID] = true
		if before := last[e.Incarnation]; before == nil {
			require.EqualValues(t, 1, e.Seq, "entry %d", i)
			require.Nil(t, e.Previous)
		} else {
			require.Equal(t, before.Seq+1, e.Seq, "entry %d", i)
			require.Equal(t, at[e.Incarnation], *e.Previous)
		}
		last[e.Incarnation], at[e.Incarnation] = e, i
		events = append(events, e)

		// Every checkpoint there is has the root of the entries before it.
		older, err := p.Checkpoint(ctx, i+1)
		if err != nil {
			require.ErrorIs(t, err, evidencelog.ErrNotFound)
			continue
		}
		c, err := evidence.OpenCheckpoint(older, vkeys...)
		require.NoError(t, err)
		root, err := tlog.TreeHash(i+1, reader)
		require.NoError(t, err)
		require.Equal(t, root, c.Hash, "size %d", i+1)
	}
	for i := range checkpoint.N {
		proof, err := p.Proof(ctx, i, 0)
		require.NoError(t, err)
		leaf, err := p.Entry(ctx, i)
		require.NoError(t, err)
		index, c, err := evidence.OpenProof(proof, leaf, vkeys...)
		require.NoError(t, err)
		require.Equal(t, i, index)
		require.Equal(t, checkpoint.N, c.N)
	}
	return events
}
