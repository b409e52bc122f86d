// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// readsInFlight bounds the entries that are read at once.
const readsInFlight = 32

// errRightEdge says that what fails is needed to append.
var errRightEdge = errors.New("the right edge of the evidence log")

// adopt takes over what storage holds, under an epoch of its own: the log of the
// greatest number, as of the greatest checkpoint that a List shows, whoever wrote it,
// and with the chunk that begins there, if one does. A mount without a log gets its
// first key.
func (l *Log) adopt(ctx context.Context) error {
	epoch, err := l.beginEpoch(ctx)
	if err != nil {
		return err
	}
	set, err := logkeys.Read(ctx, l.storage)
	if err != nil {
		return err
	}
	set.Log = max(set.Log, 1)
	var t *tree
	var signing *logkeys.Key
	for completed := true; completed; {
		if set, t, signing, err = l.readLog(ctx, set, epoch); err != nil {
			return err
		}
		if completed, err = l.complete(ctx, set, t, signing, epoch); err != nil {
			return err
		}
	}
	index, err := l.index.Load(ctx, t.at())
	if err != nil {
		return err
	}
	l.install(t, set, signing, index, epoch)
	return l.findEdges(ctx, t)
}

// epochsKept is how many epochs of appenders that have been replaced may lie in
// storage.
const epochsKept = 16

// beginEpoch takes the next epoch: one more than the greatest that a List shows.
func (l *Log) beginEpoch(ctx context.Context) (int64, error) {
	names, err := l.storage.List(ctx, prefixEpochs)
	if err != nil {
		return 0, err
	}
	all := sizes(names)
	slices.Sort(all)
	epoch := int64(1)
	if len(all) > 0 {
		epoch += all[len(all)-1]
	}
	if err := l.put(ctx, prefixEpochs+sizeName(epoch), []byte{'1'}); err != nil {
		return 0, err
	}
	if len(all) > epochsKept {
		for _, old := range all { // the own is the greatest
			if err := l.storage.Delete(ctx, prefixEpochs+sizeName(old)); err != nil {
				l.report(err)
			}
		}
	}
	return epoch, nil
}

// stillOwn reports ErrSuperseded if another appender has begun.
func (l *Log) stillOwn(ctx context.Context, epoch int64) error {
	var names []string
	err := l.persist(ctx, func(ctx context.Context) (err error) {
		names, err = l.storage.List(ctx, prefixEpochs)
		return err
	})
	if err != nil {
		return err
	}
	if all := sizes(names); len(all) > 0 && slices.Max(all) > epoch {
		return ErrSuperseded
	}
	return nil
}

// readLog reads a log as of its greatest checkpoint, with the key that signs it.
func (l *Log) readLog(ctx context.Context, set *logkeys.Set, epoch int64) (*logkeys.Set, *tree, *logkeys.Key, error) {
	n := place(set.Log)
	size, err := l.greatest(ctx, n)
	if err != nil {
		return nil, nil, nil, err
	}
	if size > 0 {
		t, signing, err := l.readTree(ctx, set, size)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%w: %w", errRightEdge, err)
		}
		return set, t, signing, nil
	}
	t := &tree{log: n, edge: map[int][]byte{}}
	if t.root, err = tlog.TreeHash(0, nil); err != nil {
		return nil, nil, nil, err
	}
	signing := set.Newest()
	if signing == nil {
		if signing, err = l.newKey(ctx, set, epoch, nil); err != nil {
			return nil, nil, nil, err
		}
		set = set.With(signing)
	}
	return set, t, signing, nil
}

// newKey makes the next key of a log. The key signs nothing before its Put succeeded.
func (l *Log) newKey(ctx context.Context, set *logkeys.Set, epoch int64, event *evidence.Head) (*logkeys.Key, error) {
	k, entry, raw, err := set.Make(l.random, l.origin(place(set.Log)), epoch, l.now(), event)
	if err != nil {
		return nil, err
	}
	return k, l.persist(ctx, func(ctx context.Context) error { return l.storage.PutSealWrapped(ctx, entry, raw) })
}

// complete completes a chunk that begins where the greatest checkpoint ends, if there is
// one: its entries may have been signed, by an appender that did not get to storing the
// checkpoint. Of several, the one of the greatest epoch that shows; one that is listed
// and does not show was not put with success, so it was not signed. The chunk is put
// again under the own epoch, by which readers find it.
func (l *Log) complete(ctx context.Context, set *logkeys.Set, t *tree, signing *logkeys.Key, epoch int64) (bool, error) {
	names, err := l.storage.List(ctx, t.log.block("chunk", blockOf(t.size+1)))
	if err != nil {
		return false, err
	}
	found := slices.DeleteFunc(spans(names), func(s span) bool { return s.begin != t.size })
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(b.epoch, a.epoch) })
	for _, s := range found {
		data, err := l.storage.Get(ctx, t.log.chunk(s))
		if err != nil {
			return false, fmt.Errorf("%w: %w: %w", errRightEdge, ErrDamaged, err)
		}
		if data == nil {
			continue
		}
		leaves, err := decodeChunk(data)
		if err == nil && int64(len(leaves)) != s.end-s.begin {
			err = fmt.Errorf("%w: %s", ErrDamaged, s.name())
		}
		if err != nil {
			return false, fmt.Errorf("%w: %w", errRightEdge, err)
		}
		_, err = l.commit(ctx, t, leaves, set.Signers(signing, leaves[len(leaves)-1]), epoch)
		return err == nil, err
	}
	return false, nil
}

// findEdges looks for edges that a process before left.
func (l *Log) findEdges(ctx context.Context, t *tree) error {
	names, err := l.storage.List(ctx, t.log.prefix("edge"))
	if err != nil {
		return err
	}
	all := sizes(names)
	l.edgeAt = 0
	if slices.Contains(all, t.size) {
		l.edgeAt = t.size
	}
	l.edges = slices.DeleteFunc(all, func(size int64) bool { return size >= t.size })
	return nil
}

func (l *Log) install(t *tree, set *logkeys.Set, signing *logkeys.Key, index logindex.Contents, epoch int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tails.Purge()
	if l.tree == nil {
		close(l.opened)
	}
	l.index.Install(index)
	l.tree, l.keys, l.key, l.epoch = t, set, signing, epoch
}

// greatest finds the greatest checkpoint of a log, 0 if it has none. No block before it
// is empty, so a search by halves finds its block.
func (l *Log) greatest(ctx context.Context, n place) (int64, error) {
	full, empty := int64(-1), int64(0) // blocks known to be so; those between are not known
	var best int64
	probe := func(block int64) (bool, error) {
		names, err := l.storage.List(ctx, n.block("checkpoint", block))
		if all := sizes(names); err == nil && len(all) > 0 {
			full, best = block, slices.Max(all)
			return true, nil
		}
		return false, err
	}
	for {
		found, err := probe(empty)
		if err != nil {
			return 0, err
		}
		if !found {
			break
		}
		empty = 2*empty + 1
	}
	for empty-full > 1 {
		middle := full + (empty-full)/2
		found, err := probe(middle)
		if err != nil {
			return 0, err
		}
		if !found {
			empty = middle
		}
	}
	return best, nil
}
