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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// edgesKept is how many edges that are no longer needed are left until the next are
// deleted together.
const edgesKept = 64

// ErrNewLog reports that a log has begun, since the one before could not go on.
var ErrNewLog = errors.New("a new evidence log has begun")

// Work opens the log, if it is not open, and appends what was submitted until nothing
// waits. Only the active node may call it, one call at a time. An error, of a context
// that has ended or that Config.GiveUp named, leaves what waits in the queue.
func (l *Log) Work(ctx context.Context) error {
	if !l.adopted {
		if err := l.insist(ctx, l.open); err != nil {
			return err
		}
		l.adopted = true
	}
	for {
		if l.queue.len() == 0 {
			l.saveEdge(ctx)
			l.deleteEdges(ctx)
		}
		if l.queue.len() == 0 {
			return nil
		}
		if err := l.pace(ctx); err != nil {
			return err
		}
		err := l.insist(ctx, l.appendBatch)
		if err == nil {
			continue
		}
		// A batch that broke off may have a chunk. It is completed under another epoch,
		// as after a crash: another batch under this one could take its place.
		l.adopted = false
		if ctx.Err() != nil || l.giveUp(err) {
			return err
		}
		l.report(err)
		if err := l.insist(ctx, l.open); err != nil {
			return err
		}
		l.adopted = true
	}
}

// pace lets a batch begin: at once if somebody waits for one of its events, or if the
// queue fills it. Others keep their distance after a burst, so that the events of many
// rotations share their writes.
func (l *Log) pace(ctx context.Context) error {
	if l.queue.isUrgent() {
		return nil
	}
	turn := l.batches.Reserve()
	timer := time.NewTimer(turn.Delay())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.queue.hurry:
		turn.Cancel()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// errBrokenOff is what a batch fails with once it may have a chunk in storage.
var errBrokenOff = errors.New("appending broke off")

// insist repeats a step until it succeeds, breaks off, or is given up. What fails for
// longer than damagedAfter while storage answers is damaged: then what can be done
// without is skipped.
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
		if l.giveUp(err) || errors.Is(err, errBrokenOff) {
			return err
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
	epoch, err := l.beginEpoch(ctx)
	if err != nil {
		return err
	}
	set, err := logkeys.Read(ctx, l.storage)
	if err != nil {
		return err
	}
	l.report(ErrNewLog)
	_, err = l.newKey(ctx, &logkeys.Set{Log: max(set.Log, 1) + 1}, epoch, nil)
	return err
}

// lastReadable describes a log by the greatest of its last checkpoints that can be read.
func (l *Log) lastReadable(ctx context.Context, n place) (*evidence.Tree, error) {
	size, err := l.greatest(ctx, n)
	if err != nil {
		return nil, err
	}
	origin := l.origin(n)
	for block := blockOf(size); size > 0 && block >= 0 && block >= blockOf(size)-1; block-- {
		names, err := l.storage.List(ctx, n.block("checkpoint", block))
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

// announce submits, before all else, what the log itself has to say: which binary started
// it, and a new signing key that it does not name yet. Both are looked up first.
func (l *Log) announce(ctx context.Context) error {
	l.mu.RLock()
	t, set, signing := l.tree, l.keys, l.key
	l.mu.RUnlock()
	entry, err := l.startedEntry(ctx, t)
	if err != nil {
		return err
	}
	first := []Pending{{Event: evidence.Event{Head: entry.Head, Detail: &entry.Started}}}
	if newest := set.Newest(); newest.Number > signing.Number && newest.Event != nil {
		first = append(first, rotation(signing, newest))
	}
	l.queue.pushFirst(first)
	return nil
}

func (l *Log) startedEntry(ctx context.Context, t *tree) (*startedEntry, error) {
	started, err := l.started(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := l.storage.Get(ctx, keyStarted)
	if err != nil && !skips(ctx) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var stored startedEntry
	if err == nil && raw != nil && json.Unmarshal(raw, &stored) == nil && stored.Log == int64(t.log) &&
		stored.Started.PluginSHA256 == started.PluginSHA256 &&
		stored.Started.PluginVersion == started.PluginVersion {
		return &stored, nil
	}
	if t.log > 1 && t.size == 0 {
		if started.PreviousLog, err = l.lastReadable(ctx, t.log-1); err != nil {
			return nil, err
		}
	}
	now := l.now().UTC()
	origin := l.origin(t.log)
	stored = startedEntry{Log: int64(t.log), Started: started, Head: evidence.Head{
		EventID: evidence.EventID(origin, evidence.TypeLogStarted, started.PluginSHA256, now.Format(time.RFC3339Nano),
			fmt.Sprint(t.size)),
		Time: now, Actor: evidence.System,
	}}
	if raw, err = json.Marshal(stored); err != nil {
		return nil, fmt.Errorf("encoding %s: %w", keyStarted, err)
	}
	return &stored, l.put(ctx, keyStarted, raw)
}

// saveEdge puts the incomplete tiles, which a start would otherwise make from up to 255
// entries and as many tiles of each level. So the batch that made them does not wait for
// them. The appender tries it once, since a missing edge does no harm.
func (l *Log) saveEdge(ctx context.Context) {
	t := l.tree // only Work replaces it
	if t.size == l.edgeAt || ctx.Err() != nil {
		return
	}
	if err := l.storage.Put(ctx, t.log.edge(t.size), encodeEdge(t.size, t.edge)); err != nil {
		l.report(err)
		return
	}
	if l.edgeAt > 0 {
		l.edges = append(l.edges, l.edgeAt)
	}
	l.edgeAt = t.size
}

// deleteEdges deletes edges of sizes that are past, many at once. One that is left does
// no harm.
func (l *Log) deleteEdges(ctx context.Context) {
	n, edges := l.tree.log, l.edges
	if len(edges) < edgesKept {
		return
	}
	l.edges = nil
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
