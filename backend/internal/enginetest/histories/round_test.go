// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// round is one run, from an empty disk to the last look at it.
type round struct {
	t       *testing.T
	seed    uint64
	random  *rand.Rand // of what is planned
	rare    *rand.Rand // of what disturbs it
	cluster *cluster
	history *recorder
	bursts  int

	mu        sync.Mutex
	rotations []string
	texts     []enginetest.Sealed
}

func newRound(seed uint64) *round {
	return &round{
		seed: seed, random: rand.New(rand.NewPCG(seed, 1)), rare: rand.New(rand.NewPCG(seed, 4)), history: newRecorder(tenants, items),
	}
}

func (r *round) started(rotation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rotations = append(r.rotations, rotation)
}

func (r *round) sealed(s enginetest.Sealed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, s)
}

// sealedSoFar returns the texts that were sealed until now.
func (r *round) sealedSoFar() []enginetest.Sealed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.texts)
}

// numberFromEnv reads a number, or returns the other one.
func numberFromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// fewRounds are those of make test: under the race detector one takes ten times as long.
func fewRounds() int {
	if enginetest.UnderRace {
		return 3
	}
	return 20
}

// TestConcurrentClients runs HISTORY_ROUNDS rounds, from HISTORY_SEED on. A round that
// fails is run again with its seed, as HISTORY_SEED, and HISTORY_ROUNDS=1.
func TestConcurrentClients(t *testing.T) {
	enginetest.InOrder(t)
	seed, rounds := numberFromEnv(t, "HISTORY_SEED", 1), numberFromEnv(t, "HISTORY_ROUNDS", fewRounds())
	requests, operations := 0, 0
	for n := range rounds {
		ok := t.Run("HISTORY_SEED="+strconv.Itoa(seed+n), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, uint64(seed+n))
			r := newRound(uint64(seed + n))
			synctest.Test(t, func(t *testing.T) {
				r.t = t
				r.run()
			})
			r.history.explain(t, map[string]state{})
			requests += r.history.requests
			operations += r.cluster.scheduler.steps
		})
		if !ok {
			t.FailNow() // one is enough to look into
		}
	}
	t.Logf("%d rounds, %d requests, %d operations of storage in an order drawn at random: no violation", rounds, requests, operations)
}

func (r *round) run() {
	r.cluster = newCluster(r.t, r.seed)
	c := &client{random: r.random, round: r}
	r.create(c)
	for range 2 + r.random.IntN(4) {
		r.bursts++
		r.burst()
		r.between()
	}
	r.end(c)
}

// create makes the tenants.
func (r *round) create(c *client) {
	for _, id := range tenants {
		data := map[string]any{"key_type": pick(r.random, "aes256-gcm", "xaes256-gcm")}
		c.send(&request{op: logical.UpdateOperation, path: "tenants/" + id, data: data, at: place{tenant: id}, in: input{act: makes}})
	}
}

// burst has several clients make requests at once.
func (r *round) burst() {
	r.cluster.scheduler.begin(pick(r.random,
		faults{}, faults{hangs: 20}, faults{writes: 20, hangs: 20}, faults{writes: 100, reads: 5, hangs: 10}, faults{writes: 300, reads: 50},
	))
	var clients sync.WaitGroup
	for n := range 2 + r.random.IntN(5) {
		clients.Add(1)
		c := &client{number: n + 1, random: rand.New(rand.NewPCG(r.random.Uint64(), 1)), round: r}
		go c.run(3+r.random.IntN(8), &clients)
	}
	done := make(chan struct{})
	go func() {
		clients.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		default:
			r.cluster.scheduler.step()
			r.disturb()
		}
	}
}

// disturb does something rare.
func (r *round) disturb() {
	c := r.cluster
	switch r.rare.IntN(4000) {
	case 0, 1, 2:
		c.crash()
	case 3, 4:
		c.failOver()
	case 5, 6, 7, 8, 9:
		c.disk.RestartVault() // its cache drops what it hid
	case 10, 11:
		for _, key := range c.disk.Keys(pick(r.rare, "pages/", "tenants/", "keys/")) {
			go c.mount.Engine.InvalidateKey(r.t.Context(), key)
		}
	}
}

// between lets time pass.
func (r *round) between() {
	if r.random.IntN(2) == 0 {
		r.cluster.scheduler.end()
	}
	if r.random.IntN(4) == 0 {
		r.cluster.scheduler.end()
		enginetest.Advance(pick(r.random, time.Second, time.Minute, time.Hour))
		r.cluster.serving().Tick()
	}
}

// end lets everything come to rest, and checks what is there: behind Vault's cache as it
// is, and without one.
func (r *round) end(c *client) {
	r.cluster.scheduler.end()
	synctest.Wait()
	w := r.oracle(r.cluster.serving())
	w.Rest()
	r.readAll(c, w)
	w.ReadsBack()
	w.Close()
	r.cluster.disk.RestartVault()
	r.cluster.start()
	w = r.oracle(r.cluster.serving())
	r.resumeAll(c, w)
	r.moveKEK(w)
	// A key that goes while its record cannot be written is noted once it is due again: when
	// the clock is where it was, or by the longest retention.
	enginetest.Advance(7 * enginetest.Day)
	w.Hourly(2 * enginetest.Day)
	w.Rest()
	r.readAll(c, w)
	w.ReadsBack()
	w.AtRest()
	r.nothingIsLeft(w)
	w.Works()
	w.Close()
}

// resumeAll resumes what is paused, since the engine does that on request alone.
func (r *round) resumeAll(c *client, w *enginetest.Oracle) {
	c.send(&request{op: logical.UpdateOperation, path: "tenants/" + mortal + "/restore", at: place{tenant: mortal}, in: input{act: restore}})
	unfinished, _ := w.Must(logical.ListOperation, "rotations", nil)["keys"].([]string)
	for _, u := range unfinished {
		id, rotation, _ := strings.Cut(u, "/")
		_, _ = w.Call(logical.UpdateOperation, "tenants/"+id+"/dek/rotations/"+rotation+"/resume", nil)
	}
}

// moveKEK rotates the KEK once more if what the cache hid was in the way.
func (r *round) moveKEK(w *enginetest.Oracle) {
	w.Rest()
	if w.Must(logical.ReadOperation, "kek", nil)["status"] == "failed" {
		w.Must(logical.UpdateOperation, "kek/rotate", nil)
	}
}

// oracle knows what of the tenant that stays must hold, but for its items.
func (r *round) oracle(m *enginetest.Mount) *enginetest.Oracle {
	w := enginetest.NewOracle(m)
	w.Created = true
	w.External.Sealed = r.texts
	w.Rotations = r.rotations
	for _, id := range r.rotations {
		w.Ends[id] = []string{"completed", "rolled_back"}
	}
	w.KEKs.Asked = 1
	return w
}

// readAll reads each item, as one more client: the oracle learns what there is.
func (r *round) readAll(c *client, w *enginetest.Oracle) {
	for _, id := range tenants {
		for _, i := range items {
			path := "tenants/" + id + "/secrets/" + i
			c.once(&request{id: w.RequestID(), op: logical.ReadOperation, path: path, at: place{id, i}, in: input{act: read}})
			if id == lasting {
				w.Allowed[i] = []string{enginetest.Absent}
				if resp, err := w.Call(logical.ReadOperation, path, nil); err == nil {
					w.Allowed[i] = []string{resp.Data["data"].(map[string]any)["value"].(string)}
				}
			}
		}
	}
}

// nothingIsLeft checks that of each incarnation that was shredded only the tombstone is left.
func (r *round) nothingIsLeft(w *enginetest.Oracle) {
	for _, stone := range w.Disk.Keys("tombstones/") {
		_, incarnation, _ := strings.Cut(stone, ".")
		for _, prefix := range []string{"keys/", "pages/", "history/", "progress/", "seals/", "uses/"} {
			require.Empty(r.t, w.Disk.Keys(prefix+incarnation), "of a tenant that was shredded")
		}
	}
}
