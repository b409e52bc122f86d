// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// Errors.
var (
	// ErrNotFound reports an entry, a checkpoint or a tile that the log does not have.
	ErrNotFound = errors.New("not in the log")
	// ErrConflict reports an event whose place in its sequence another one has.
	ErrConflict = errors.New("another event has this sequence number")
	// ErrDamaged reports an entry in storage that is there and cannot be read.
	ErrDamaged = errors.New("an entry of the log cannot be read")
	// ErrSuperseded reports that another instance of the engine has written to the log.
	ErrSuperseded = errors.New("another instance has written to the log")
)

// Storage holds the log; [storage.Mount] is one.
type Storage interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	PutSealWrapped(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Limits of a batch, which is one chunk in storage.
const (
	maxChunk   = 256 << 10
	blockSize  = 1024
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

const (
	prefixEpochs = "evidence/epochs/"
	keyStarted   = "evidence/started"
)

// place is the storage of the nth log.
type place int64

func (n place) prefix(what string) string {
	return fmt.Sprintf("evidence/log/%06d/%s/", int64(n), what)
}

// block is the prefix of entries that end within the same 1,024 entries of the log.
func (n place) block(what string, block int64) string {
	return fmt.Sprintf("%s%012d/", n.prefix(what), block)
}

// blockOf is the block in which a chunk or checkpoint of that size ends.
func blockOf(size int64) int64 { return (size - 1) / blockSize }

func (n place) checkpoint(size int64) string {
	return n.block("checkpoint", blockOf(size)) + sizeName(size)
}

// A span names a chunk: it has the entries from begin up to end, and was written by the
// appender of an epoch.
type span struct{ begin, end, epoch int64 }

func (s span) name() string {
	return fmt.Sprintf("%s-%s-%s", sizeName(s.begin), sizeName(s.end), sizeName(s.epoch))
}

func (n place) chunk(s span) string { return n.block("chunk", blockOf(s.end)) + s.name() }

// spans reads the names of a List; what is no span is left out.
func spans(names []string) []span {
	var all []span
	for _, name := range names {
		var s span
		if _, err := fmt.Sscanf(name, "%d-%d-%d", &s.begin, &s.end, &s.epoch); err == nil &&
			s.begin >= 0 && s.begin < s.end && s.epoch > 0 && s.name() == name {
			all = append(all, s)
		}
	}
	return all
}

func (n place) edge(size int64) string { return n.prefix("edge") + sizeName(size) }

// tile names a complete tile by the size of the log at which it was complete.
func (n place) tile(t tlog.Tile) string {
	end := (t.N + 1) << (tileHeight * (t.L + 1))
	return fmt.Sprintf("%s%d/%s", n.prefix("tile"), t.L, sizeName(end))
}

func sizeName(size int64) string { return fmt.Sprintf("%016d", size) }

// sizes reads the names of a List; what is no size is left out.
func sizes(names []string) []int64 {
	var all []int64
	for _, name := range names {
		if size, err := strconv.ParseInt(name, 10, 64); err == nil && size > 0 && sizeName(size) == name {
			all = append(all, size)
		}
	}
	return all
}
