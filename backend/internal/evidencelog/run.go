// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// edgesKept is how many edges that are no longer needed are left until the next are
// deleted together.
const edgesKept = 64

// ErrNewLog reports that a log has begun, since the one before could not go on.
var ErrNewLog = errors.New("a new evidence log has begun")

// Run opens the log and appends what is submitted, until ctx ends. Only the active node
// may run it, and only one instance.
func (l *Log) Run(ctx context.Context) error {
	if err := l.insist(ctx, l.open); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	index := make(chan struct{}, 1)
	index <- struct{}{}
	g.Go(func() error {
		for {
			select {
			case <-index:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := l.insist(ctx, l.buildIndex); err != nil {
				return err
			}
		}
	})
	g.Go(func() error {
		for {
			if err := l.insist(ctx, l.appendOnce); err != nil {
				return err
			}
			select {
			case index <- struct{}{}:
			default:
			}
			l.deleteEdges(ctx)
			if l.queue.len() > 0 {
				continue
			}
			select {
			case <-l.queue.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return g.Wait()
}

// appendOnce appends a batch. Where another instance has written, it takes over what
// that one wrote, and the batch is formed again.
func (l *Log) appendOnce(ctx context.Context) error {
	err := l.appendBatch(ctx)
	if errors.Is(err, ErrSuperseded) {
		l.report(err)
		return l.adopt(ctx)
	}
	return err
}

// insist repeats a step until it succeeds or the engine ends. What fails for longer than
// damagedAfter while storage answers is damaged: then what can be done without is
// skipped.
func (l *Log) insist(ctx context.Context, step func(context.Context) error) error {
	stepCtx := ctx
	const longest = 2 * time.Second
	var since time.Time
	for pause := l.retry; ; pause = min(2*pause, longest) {
		err := step(stepCtx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.report(err)
		switch {
		case !errors.Is(err, ErrDamaged) || !l.answers(ctx):
			since = time.Time{}
		case since.IsZero():
			since = l.now()
		case l.now().Sub(since) >= l.damagedAfter:
			stepCtx = context.WithValue(ctx, skipKey{}, true)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

type skipKey struct{}

// skips reports whether unreadable entries are to be passed over.
func skips(ctx context.Context) bool { return ctx.Value(skipKey{}) != nil }

// answers reports whether storage answers a Get: only then is an entry that it does not
// answer a damaged one.
func (l *Log) answers(ctx context.Context) bool {
	_, err := l.storage.Get(ctx, "evidence/probe")
	return err == nil
}

// open adopts the log, or begins the next where its right edge is damaged for good.
func (l *Log) open(ctx context.Context) error {
	err := l.adopt(ctx)
	if errors.Is(err, errRightEdge) && errors.Is(err, ErrDamaged) && skips(ctx) {
		if err := l.beginNext(ctx); err != nil {
			return err
		}
		err = l.adopt(ctx)
	}
	if err != nil {
		return err
	}
	return l.announce(ctx)
}

// beginNext makes the first key of the next log.
func (l *Log) beginNext(ctx context.Context) error {
	set, err := l.readKeys(ctx)
	if err != nil {
		return err
	}
	l.report(ErrNewLog)
	_, err = l.newKey(ctx, max(set.log, 1)+1, 1, nil)
	return err
}

// lastReadable describes a log by the greatest of its last checkpoints that can be read.
func (l *Log) lastReadable(ctx context.Context, n place) (*evidence.Tree, error) {
	size, err := l.greatest(ctx, n)
	if err != nil {
		return nil, err
	}
	origin := l.origin(n)
	for epoch := (size - 1) / epochSize; size > 0 && epoch >= 0 && epoch >= (size-1)/epochSize-1; epoch-- {
		names, err := l.storage.List(ctx, n.epoch("checkpoint", epoch))
		if err != nil {
			return nil, err
		}
		all := sizes(names)
		slices.Sort(all)
		for _, s := range slices.Backward(all) {
			text, err := l.storage.Get(ctx, n.checkpoint(s))
			if err != nil || text == nil {
				continue
			}
			if c, err := evidence.ParseCheckpoint(text); err == nil && c.N == s {
				root := base64.StdEncoding.EncodeToString(c.Hash[:])
				return &evidence.Tree{Origin: origin, Size: c.N, RootHash: root}, nil
			}
		}
	}
	return &evidence.Tree{Origin: origin, Size: size}, nil
}

// startedEntry is what decides the entry about a start: it is written before that.
type startedEntry struct {
	Log     int64               `json:"log"`
	Head    evidence.Head       `json:"head"`
	Started evidence.LogStarted `json:"started"`
}

// announce submits, before all else, what the log itself has to say: which binary started it, and a new
// signing key that it does not name yet. Both are looked up first.
func (l *Log) announce(ctx context.Context) error {
	l.mu.RLock()
	t, set, signing := l.tree, l.keys, l.key
	l.mu.RUnlock()
	entry, err := l.startedEntry(ctx, t)
	if err != nil {
		return err
	}
	var first []*item
	first = append(first, newItem(Pending{Event: evidence.Event{Head: entry.Head, Detail: &entry.Started}}))
	if newest := set.newest(); newest != nil && newest.number > signing.number && newest.Event != nil {
		first = append(first, newItem(rotation(signing, newest)))
	}
	l.queue.pushFirst(first)
	return nil
}

func (l *Log) startedEntry(ctx context.Context, t *tree) (*startedEntry, error) {
	raw, err := l.storage.Get(ctx, keyStarted)
	if err != nil && !skips(ctx) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var stored startedEntry
	if err == nil && raw != nil && json.Unmarshal(raw, &stored) == nil && stored.Log == int64(t.log) &&
		stored.Started.PluginSHA256 == l.started.PluginSHA256 &&
		stored.Started.PluginVersion == l.started.PluginVersion {
		return &stored, nil
	}
	started := l.started
	if t.log > 1 && t.size == 0 {
		if started.PreviousLog, err = l.lastReadable(ctx, t.log-1); err != nil {
			return nil, err
		}
	}
	now := l.now().UTC()
	origin := l.origin(t.log)
	stored = startedEntry{Log: int64(t.log), Started: started, Head: evidence.Head{
		EventID: evidence.EventID(origin, evidence.TypeLogStarted, l.started.PluginSHA256, now.Format(time.RFC3339Nano),
			fmt.Sprint(t.size)),
		Time: now, Actor: evidence.System,
	}}
	if raw, err = json.Marshal(stored); err != nil {
		return nil, fmt.Errorf("encoding %s: %w", keyStarted, err)
	}
	return &stored, l.put(ctx, keyStarted, raw)
}

// deleteEdges deletes edges of sizes that are past, many at once. One that is left does
// no harm.
func (l *Log) deleteEdges(ctx context.Context) {
	l.mu.Lock()
	n, edges := l.tree.log, l.edges
	if len(edges) < edgesKept {
		l.mu.Unlock()
		return
	}
	l.edges = nil
	l.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for _, size := range edges {
		g.Go(func() error {
			if err := l.storage.Delete(ctx, n.edge(size)); err != nil {
				l.report(err)
			}
			return nil
		})
	}
	_ = g.Wait() // each failure was reported
}
