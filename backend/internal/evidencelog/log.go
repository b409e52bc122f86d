// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/time/rate"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Sizes of the caches: 8 MiB of tiles, at most 16 MiB of chunks.
const (
	cachedTiles  = 1024
	cachedChunks = 64
	cachedBlocks = 1024
	cachedTails  = 16384
)

// Batches of events that nobody waits for come one after the other until batchBurst of
// them came in a row, and then batchEvery: what is logged meanwhile shares the next.
const (
	batchBurst = 20
	batchEvery = 50 * time.Millisecond
	maxBatch   = 4 * blockSize // events, those that are in the log already included
)

// Config is what a log needs to know.
type Config struct {
	Storage   Storage
	MountUUID string
	// Started returns what the log's first entry says of this binary. Another binary is
	// logged again.
	Started func(context.Context) (evidence.LogStarted, error)
	// Now is the clock, time.Now if nil; Random the source of keys, crypto/rand if nil.
	Now    func() time.Time
	Random io.Reader
	// Retry is the first pause after a write that failed, 100 ms if 0. It doubles to
	// 2 s.
	Retry time.Duration
	// DamagedAfter is for how long the right edge of the log must have failed to be
	// read, while storage answers, until a new log begins: 30 s if 0.
	DamagedAfter time.Duration
	// Report is told of each failure that Work meets, and of each new log. It may be nil.
	Report func(err error)
	// Wake is called when something is submitted: then Work is to be called. It may be nil.
	Wake func()
	// GiveUp says of an error that Work is to end with it instead of trying again: that
	// storage can only be read. It may be nil.
	GiveUp func(err error) bool
}

// Log is the evidence log of a mount. One instance appends: [Log.Work], on the active
// node. It is safe for concurrent use.
type Log struct {
	storage      Storage
	mount        string
	started      func(context.Context) (evidence.LogStarted, error)
	now          func() time.Time
	random       io.Reader
	retry        time.Duration
	damagedAfter time.Duration
	report       func(error)
	giveUp       func(error) bool
	batches      *rate.Limiter

	tiles  *lru.Cache[string, []byte]
	chunks *lru.Cache[string, [][]byte]
	blocks *lru.Cache[string, []span]
	tails  *lru.Cache[scope, tail]
	index  *logindex.Index

	mu     sync.RWMutex
	tree   *tree // nil until the log is open
	keys   *logkeys.Set
	key    *logkeys.Key
	epoch  int64         // the appender's, taken as it began
	opened chan struct{} // closed once tree is there

	adopted  bool    // of Work alone, as the next three: what is in memory is what storage has
	latest   *tree   // what was signed last, if anything was: it may not be stored
	edgeAt   int64   // the size whose edge storage has, 0 if it has none
	edges    []int64 // sizes whose edge is no longer needed
	queue    queue
	rotating sync.Mutex // one new signing key at a time
}

// New returns a log that opens once Work does.
func New(c Config) *Log {
	l := &Log{
		storage: c.Storage, mount: c.MountUUID, started: c.Started, now: c.Now, random: c.Random,
		retry: cmp.Or(c.Retry, 100*time.Millisecond), damagedAfter: cmp.Or(c.DamagedAfter, 30*time.Second),
		report: c.Report, giveUp: c.GiveUp, opened: make(chan struct{}), batches: rate.NewLimiter(rate.Every(batchEvery), batchBurst),
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.random == nil {
		l.random = rand.Reader
	}
	if l.report == nil {
		l.report = func(error) {}
	}
	l.tiles, _ = lru.New[string, []byte](cachedTiles) // fails only for a size of 0
	l.chunks, _ = lru.New[string, [][]byte](cachedChunks)
	l.blocks, _ = lru.New[string, []span](cachedBlocks)
	l.tails, _ = lru.New[scope, tail](cachedTails)
	l.index = logindex.New(indexed{l}, l.report)
	if l.giveUp == nil {
		l.giveUp = func(error) bool { return false }
	}
	l.queue.hurry = make(chan struct{}, 1)
	l.queue.wake = c.Wake
	if l.queue.wake == nil {
		l.queue.wake = func() {}
	}
	return l
}

func (l *Log) origin(n place) string { return evidence.Origin(l.mount, int64(n)) }

func treeOf(t *tree) tlog.Tree { return tlog.Tree{N: t.size, Hash: t.root} }

// snapshot waits until the log is open and returns what it holds.
func (l *Log) snapshot(ctx context.Context) (*tree, error) {
	select {
	case <-l.opened:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tree, nil
}

// Size returns the number of entries that count, 0 while the log is not open.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.tree == nil {
		return 0
	}
	return l.tree.size
}

// Waiting returns how many events wait to be logged.
func (l *Log) Waiting() int { return l.queue.len() }

// persist repeats a write until it succeeds or the engine ends. The write must be the
// same each time: one that failed may have taken effect.
func (l *Log) persist(ctx context.Context, write func(context.Context) error) error {
	const longest = 2 * time.Second
	for pause := l.retry; ; pause = min(2*pause, longest) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := write(ctx)
		if err == nil {
			return nil
		}
		if l.giveUp(err) {
			return err
		}
		l.report(err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Number is which log of the mount this is, from 1.
func (l *Log) Number(ctx context.Context) (int64, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return 0, err
	}
	return int64(t.log), nil
}
