// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// add puts an item into the batch. It reports false if the batch has no room for it.
func (l *Log) add(ctx context.Context, b *batch, i *item) (fits bool, err error) {
	last, err := l.tailOf(ctx, b, i)
	if err != nil {
		return false, err
	}
	at, err := l.logged(ctx, b, i, last)
	switch {
	case errors.Is(err, ErrConflict):
		b.answer(i, Position{}, err) // the others go on
		return true, nil
	case err != nil:
		return false, err
	case at != nil:
		b.answer(i, *at, nil)
		return true, nil
	}
	event := i.Event
	s := logindex.ScopeOf(&event.Head)
	if s.OfMount() {
		event.Seq = last.seq + 1
	}
	if last.seq > 0 {
		event.Previous = &last.index
	}
	leaf, err := evidence.Encode(&event)
	if err != nil {
		b.answer(i, Position{}, err)
		return true, nil
	}
	if b.full(len(leaf)) {
		return false, nil
	}
	index := b.tree.size + int64(len(b.leaves))
	b.leaves, b.events, b.bytes = append(b.leaves, leaf), append(b.events, &event), b.bytes+2+len(leaf)
	b.tails[s] = tail{seq: event.Seq, index: index, event: logindex.TagOf(event.EventID)}
	b.answer(i, Position{Log: int64(b.tree.log), Index: index, Seq: event.Seq}, nil)
	return true, nil
}

func (b *batch) answer(i *item, at Position, err error) {
	b.answers = append(b.answers, answer{i, at, err})
}

// form makes a batch of the items that come first. The entry of a new signing key ends
// its batch, so that the checkpoint with both signatures ends with it.
func (l *Log) form(ctx context.Context, t *tree) (*batch, error) {
	b := &batch{tree: t, tails: map[scope]tail{}}
	for _, i := range l.queue.peek(maxBatch) {
		fits, err := l.add(ctx, b, i)
		if err != nil {
			return nil, err
		}
		if !fits {
			break
		}
		if _, newKey := i.Event.Detail.(*evidence.LogKeyRotated); newKey {
			break
		}
	}
	return b, nil
}

// appendBatch logs what waits first, and answers it.
func (l *Log) appendBatch(ctx context.Context) error {
	l.mu.RLock()
	t, set, signing, epoch := l.tree, l.keys, l.key, l.epoch
	l.mu.RUnlock()
	b, err := l.form(ctx, t)
	if err != nil || len(b.answers) == 0 {
		return err
	}
	if len(b.leaves) > 0 {
		for _, a := range b.answers {
			a.item.attempted() // if this breaks off, its chunk may be completed later
		}
		keys := set.Signers(signing, b.leaves[len(b.leaves)-1])
		next, err := l.commit(ctx, t, b.leaves, keys, epoch)
		if err != nil {
			return fmt.Errorf("%w: %w", errBrokenOff, err)
		}
		l.committed(next, keys[len(keys)-1], b)
	}
	l.queue.drop(b.answers)
	for _, a := range b.answers {
		a.item.finish(a.position, a.err)
	}
	return nil
}

// commit writes entries in the order of the package comment, and returns the log with
// them. It looks at the context before each Put and before signing: an instance that has
// been replaced signs nothing.
func (l *Log) commit(ctx context.Context, t *tree, leaves [][]byte, keys []*logkeys.Key, epoch int64) (*tree, error) {
	g, err := l.grow(ctx, t, leaves)
	if err != nil {
		return nil, err
	}
	chunk, err := encodeChunk(leaves)
	if err != nil {
		return nil, err
	}
	n, size := t.log, g.next.size
	if err := l.put(ctx, n.chunk(span{t.size, size, epoch}), chunk); err != nil {
		return nil, err
	}
	if err := l.putTiles(ctx, g.tiles); err != nil {
		return nil, err
	}
	if err := l.stillOwn(ctx, epoch); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	note, err := logkeys.Sign(l.origin(n), treeOf(g.next), keys)
	if err != nil {
		return nil, err
	}
	g.next.note, g.next.signedAt = note, l.now()
	l.latest = g.next
	return g.next, l.put(ctx, n.checkpoint(size), note)
}

func (l *Log) put(ctx context.Context, key string, value []byte) error {
	return l.persist(ctx, func(ctx context.Context) error { return l.storage.Put(ctx, key, value) })
}

func (l *Log) putTiles(ctx context.Context, tiles map[string][]byte) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsInFlight)
	for key, data := range tiles {
		group.Go(func() error { return l.put(ctx, key, data) })
	}
	return group.Wait()
}

// committed installs what a batch made of the log.
func (l *Log) committed(next *tree, signing *logkeys.Key, b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, t := range b.tails {
		l.tails.Add(s, t)
	}
	l.index.Add(b.events)
	l.tree, l.key = next, signing
}
