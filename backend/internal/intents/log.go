// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package intents

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
)

const (
	// MaxShared is how many intents share an entry at most: some 12 KB of JSON, and the bits
	// of a uint64.
	MaxShared = 64
	// patience is how long a Put waits for the one before it: storage that does not answer for
	// one entry holds no others up.
	patience = time.Second
	// entriesInPart bounds the entries that the Log remembers as deleted in part. Of one that it
	// has forgotten it lists all intents again, and the jobs that recover them delete them again.
	entriesInPart = 1 << 14
)

// Entries is the write-ahead log.
type Entries interface {
	// Put adds an entry of one intent or of several, and returns its ID.
	Put(context.Context, []Intent) (id string, err error)
	// Delete removes an entry; one that is not there is no error.
	Delete(ctx context.Context, id string) error
}

// Log is the write-ahead log as those who write intents see it.
type Log struct {
	entries Entries

	writing chan struct{} // has room for one Put: those who come meanwhile share the next
	batches jobs.Batches[*put]

	mu     sync.Mutex
	inPart *lru.Cache[string, uint64] // which intents of an entry were deleted, a bit each
}

type put struct {
	intent Intent
	id     string
	err    error
}

// New returns the Log over entries.
func New(entries Entries) *Log {
	inPart, err := lru.New[string, uint64](entriesInPart)
	if err != nil {
		panic(err) // its size is a constant
	}
	return &Log{
		entries: entries, inPart: inPart,
		writing: make(chan struct{}, 1), batches: jobs.Batches[*put]{Most: MaxShared},
	}
}

// Put writes an intent, with those of others that come while it waits for an earlier Put,
// and returns its ID.
func (l *Log) Put(ctx context.Context, i Intent) (id string, err error) {
	p := &put{intent: i}
	own, leads := l.batches.Join("", p)
	if leads {
		l.putAll(context.WithoutCancel(ctx), own) // the others' must not end with this request
	} else {
		<-own.Done
	}
	return p.id, p.err
}

// putAll writes a batch, once no other is being written, or the other does not end.
func (l *Log) putAll(ctx context.Context, own *jobs.Batch[*put]) {
	defer close(own.Done)
	select {
	case l.writing <- struct{}{}:
		defer func() { <-l.writing }()
	case <-time.After(patience):
	}
	l.batches.Seal("", own)
	shared := make([]Intent, len(own.All))
	for n, p := range own.All {
		shared[n] = p.intent
	}
	entry, err := l.entries.Put(ctx, shared)
	for n, p := range own.All {
		p.id, p.err = place{entry, n, len(own.All)}.String(), err
	}
}

// Delete deletes an intent. The last one of an entry takes the entry with it.
func (l *Log) Delete(ctx context.Context, id string) error {
	p, shared := parse(id)
	if !shared {
		return l.entries.Delete(ctx, id)
	}
	if !l.isLast(p) {
		return nil
	}
	if err := l.entries.Delete(ctx, p.entry); err != nil {
		return err // it still counts as there
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inPart.Remove(p.entry)
	return nil
}

// isLast reports whether all other intents of an entry were deleted. If not, it notes that
// this one is.
func (l *Log) isLast(p place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	deleted, _ := l.inPart.Get(p.entry)
	deleted |= 1 << p.n
	if deleted == 1<<p.of-1 {
		return true
	}
	l.inPart.Add(p.entry, deleted)
	return false
}

// Left gives the intents of an entry, as it was read, their IDs and returns those that were
// not deleted.
func (l *Log) Left(entry string, all []Intent) (left []Intent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	deleted, _ := l.inPart.Get(entry)
	for n, i := range all {
		if i.ID = (place{entry, n, len(all)}).String(); deleted&(1<<n) == 0 {
			left = append(left, i)
		}
	}
	return left
}

// place is where an intent is: in which entry, at which place of how many, from 0.
type place struct {
	entry string
	n, of int
}

const placeFormat = "%d/%d"

// String is the ID of the intent: that of the entry, and in one of several its place,
// <entry>:<n>/<of>.
func (p place) String() string {
	if p.of == 1 {
		return p.entry
	}
	return fmt.Sprintf("%s:"+placeFormat, p.entry, p.n, p.of)
}

// parse returns what an ID says; shared is false for that of an entry of one intent.
func parse(id string) (p place, shared bool) {
	entry, at, shared := strings.Cut(id, ":")
	if !shared {
		return place{}, false
	}
	p.entry = entry
	_, err := fmt.Sscanf(at, placeFormat, &p.n, &p.of)
	if err != nil || p.n < 0 || p.n >= p.of || p.of > MaxShared || p.String() != id {
		return place{}, false
	}
	return p, true
}
