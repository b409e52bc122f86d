// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shelf is a store in memory, ordered by key.
type shelf struct {
	mu         sync.Mutex
	records    map[string]Record
	beforeSwap func(*shelf)
	scanErr    error
	swapErr    error
	swaps      int
}

func (s *shelf) Scan(_ context.Context, after string, limit int) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.records {
		if key > after {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	var out []Record
	for _, key := range keys[:min(limit, len(keys))] {
		out = append(out, s.records[key])
	}
	return out, s.scanErr
}

func (s *shelf) Swap(_ context.Context, changes []Change) ([]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swaps++
	if s.beforeSwap != nil {
		s.beforeSwap(s)
	}
	written := make([]bool, len(changes))
	for i, c := range changes {
		if now := s.records[c.Record.Key]; now.Ciphertext == c.Record.Ciphertext {
			now.Ciphertext = c.Ciphertext
			s.records[c.Record.Key] = now
			written[i] = true
		}
	}
	return written, s.swapErr
}

// sweeping is a store with n texts of version 1, each bound to its key, and a
// sweep over it, after a rotation.
func sweeping(t *testing.T, n int) (*shelf, *Sweep, *AEAD) {
	t.Helper()
	e, tenant := inMemory(t)
	a := closing(t, tenant.AEAD())
	s := &shelf{records: map[string]Record{}}
	for i := range n {
		key := fmt.Sprintf("%05d", i)
		s.records[key] = Record{Key: key, Tenant: tenantID, Ciphertext: encrypted(t, a, "text "+key, key), AssociatedData: []byte(key)}
	}
	e.Rotate(tenantID)
	return s, &Sweep{Store: s, Batch: 10, Tenant: func(id string) (*AEAD, error) {
		if id == tenantID {
			return a, nil
		}
		other, err := tenant.c.Tenant(id)
		if err != nil {
			return nil, err
		}
		return closing(t, other.AEAD()), nil
	}}, a
}

func TestSweep(t *testing.T) {
	s, sweep, a := sweeping(t, 25)
	for key, change := range map[string]func(*Record){
		"00003": func(r *Record) { r.Ciphertext = "nonsense" },
		"00004": func(r *Record) { r.AssociatedData = nil },
		"00005": func(r *Record) { r.Ciphertext = "" },
		"00006": func(r *Record) { r.Tenant = "nobody" },
		"00007": func(r *Record) { r.Tenant = rotationID[len("rot-"):len(rotationID)-1] + "0" }, // not there
	} {
		r := s.records[key]
		change(&r)
		s.records[key] = r
	}
	var refused []string
	var steps []string
	sweep.Refused = func(r Refused) { refused = append(refused, r.Key) }
	sweep.Done = func(p Progress) error { steps = append(steps, p.After); return nil }
	p, err := sweep.Run(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, Progress{Scanned: 25, Rewrapped: 20, Empty: 1, Refused: 4, After: "00024"}, p)
	assert.ElementsMatch(t, []string{"00003", "00004", "00006", "00007"}, refused)
	assert.Equal(t, []string{"00009", "00019", "00024"}, steps)
	for key, r := range s.records {
		if len(key) == 5 && key > "00007" {
			requireVersion(t, 2, r.Ciphertext)
			got, err := a.Decrypt([]byte(r.Ciphertext), []byte(key))
			require.NoError(t, err)
			assert.Equal(t, "text "+key, string(got))
		}
	}
	p, err = sweep.Run(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, Progress{Scanned: 25, Current: 20, Empty: 1, Refused: 4, After: "00024"}, p)
}

// What somebody else has written in between stays.
func TestSweepLosesNoWrite(t *testing.T) {
	s, sweep, a := sweeping(t, 5)
	later := encrypted(t, a, "later", "00002")
	s.beforeSwap = func(s *shelf) {
		r := s.records["00002"]
		r.Ciphertext = later
		s.records["00002"] = r
	}
	p, err := sweep.Run(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, Progress{Scanned: 5, Rewrapped: 4, Raced: 1, After: "00004"}, p)
	assert.Equal(t, later, s.records["00002"].Ciphertext)
}

// paused is a shelf whose first batch waits, before it is stored. The others may be read
// meanwhile.
type paused struct {
	*shelf
	first func()
}

func (s paused) Swap(ctx context.Context, changes []Change) ([]bool, error) {
	if changes[0].Record.Key == "00000" {
		s.first()
	}
	return s.shelf.Swap(ctx, changes)
}

// While one batch is stored the next is rewrapped, so that neither the store nor the process
// waits for the other.
func TestSweepRewrapsWhileItStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, sweep, _ := sweeping(t, 30)
		asked := make(chan struct{}, 3) // for the key, once a batch
		tenant := sweep.Tenant
		sweep.Tenant = func(id string) (*AEAD, error) {
			asked <- struct{}{}
			return tenant(id)
		}
		sweep.Store = paused{s, func() { // the first is stored once the second is being rewrapped
			<-asked
			<-asked
		}}
		p, err := sweep.Run(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, Progress{Scanned: 30, Rewrapped: 30, After: "00029"}, p)
	})
}

// Vault is asked for many tenants at once: in a table of many, each batch has texts of all.
func TestSweepAsksForTenantsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		other, err := tenant.c.Tenant(otherID)
		require.NoError(t, err)
		s, aeads := &shelf{records: map[string]Record{}}, map[string]*AEAD{}
		for i, of := range []*Tenant{tenant, other, tenant, other} {
			if aeads[of.ID()] == nil {
				aeads[of.ID()] = closing(t, of.AEAD())
			}
			key := fmt.Sprint(i)
			s.records[key] = Record{Key: key, Tenant: of.ID(), Ciphertext: encrypted(t, aeads[of.ID()], "x", "")}
		}
		e.Rotate(tenantID)
		e.Rotate(otherID)
		meeting := make(chan struct{})
		e.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/dek/current") {
				select { // the first request waits for the second
				case meeting <- struct{}{}:
				case <-meeting:
				}
			}
			return false
		})
		sweep := &Sweep{Store: s, Tenant: func(id string) (*AEAD, error) { return aeads[id], nil }}
		p, err := sweep.Run(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, Progress{Scanned: 4, Rewrapped: 4, After: "3"}, p)
	})
}

// A batch of which one tenant's texts cannot be rewrapped is not stored: else the next sweep
// would find texts of the others that it has not counted.
func TestSweepStoresNoPartOfABatch(t *testing.T) {
	s, sweep, a := sweeping(t, 5)
	closed := closing(t, a.tenant.AEAD())
	require.NoError(t, closed.Close())
	s.records["other"] = Record{Key: "other", Tenant: otherID, Ciphertext: encrypted(t, a, "x", "")}
	before := maps.Clone(s.records)
	sweep.Tenant = func(id string) (*AEAD, error) { return map[string]*AEAD{tenantID: a, otherID: closed}[id], nil }
	p, err := sweep.Run(t.Context(), "")
	require.ErrorIs(t, err, ErrClosed)
	assert.Equal(t, Progress{}, p)
	assert.Equal(t, before, s.records)
	assert.Zero(t, s.swaps)
}

// turns is a shelf whose first batch is stored only when the second has been.
type turns struct {
	*shelf
	second chan struct{}
}

func (s turns) Swap(ctx context.Context, changes []Change) ([]bool, error) {
	if changes[0].Record.Key == "00000" {
		<-s.second
	}
	written, err := s.shelf.Swap(ctx, changes)
	if changes[0].Record.Key == "00010" {
		close(s.second)
	}
	return written, err
}

// As many batches are stored at once as there may be writers. What is told of them is told
// in their order: a sweep goes on behind what is stored without a gap.
func TestSweepStoresAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, sweep, _ := sweeping(t, 25)
		sweep.Writers, sweep.Store = 2, turns{s, make(chan struct{})}
		var steps []string
		sweep.Done = func(p Progress) error { steps = append(steps, p.After); return nil }
		p, err := sweep.Run(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, Progress{Scanned: 25, Rewrapped: 25, After: "00024"}, p)
		assert.Equal(t, []string{"00009", "00019", "00024"}, steps)
	})
}

// failing is a shelf that stores the second batch, and fails with the first after it.
type failing struct{ turns }

var errFull = errors.New("full")

func (s failing) Swap(ctx context.Context, changes []Change) ([]bool, error) {
	if changes[0].Record.Key == "00000" {
		<-s.second
		return nil, errFull
	}
	return s.turns.Swap(ctx, changes)
}

// A batch that is stored behind one that fails is not passed over by the next sweep.
func TestSweepGoesOnBehindNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, sweep, _ := sweeping(t, 20)
		sweep.Writers, sweep.Store = 2, failing{turns{s, make(chan struct{})}}
		p, err := sweep.Run(t.Context(), "")
		require.ErrorIs(t, err, errFull)
		assert.Empty(t, p.After)
		sweep.Store = s
		p, err = sweep.Run(t.Context(), p.After)
		require.NoError(t, err)
		assert.Equal(t, Progress{Scanned: 20, Rewrapped: 10, Current: 10, After: "00019"}, p)
	})
}

func TestSweepDryRunWritesNothing(t *testing.T) {
	s, sweep, _ := sweeping(t, 15)
	sweep.DryRun = true
	p, err := sweep.Run(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, Progress{Scanned: 15, Rewrapped: 15, After: "00014"}, p)
	assert.Zero(t, s.swaps)
}

// Whatever ends a sweep, it says up to where everything is stored, and goes on
// from there.
func TestSweepGoesOn(t *testing.T) {
	broken := errors.New("broken")
	for name, fail := range map[string]func(*shelf, *Sweep){
		"scan": func(s *shelf, _ *Sweep) { s.scanErr = broken },
		"swap": func(s *shelf, _ *Sweep) { s.swapErr = broken },
		"done": func(_ *shelf, w *Sweep) { w.Done = func(Progress) error { return broken } },
	} {
		t.Run(name, func(t *testing.T) {
			s, sweep, _ := sweeping(t, 65) // more than it reads ahead
			first := true
			sweep.Done = func(Progress) error {
				if first {
					first = false
					s.mu.Lock()
					defer s.mu.Unlock()
					fail(s, sweep)
				}
				return nil
			}
			p, err := sweep.Run(t.Context(), "")
			require.ErrorIs(t, err, broken)
			require.NotEmpty(t, p.After)
			s.scanErr, s.swapErr, sweep.Done = nil, nil, nil
			_, err = sweep.Run(t.Context(), p.After)
			require.NoError(t, err)
			for _, r := range s.records {
				requireVersion(t, 2, r.Ciphertext)
			}
		})
	}
}

func TestSweepKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, sweep, _ := sweeping(t, 100)
		sweep.Rate = 50
		began := time.Now()
		_, err := sweep.Run(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, 2*time.Second, time.Since(began))
	})
}

func TestSweepEndsWithItsContext(t *testing.T) {
	_, sweep, _ := sweeping(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	sweep.Done = func(Progress) error { cancel(); return nil }
	p, err := sweep.Run(ctx, "")
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, "00009", p.After)
}
