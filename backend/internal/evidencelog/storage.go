// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	epochSize  = 1024
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

const (
	prefixKeys   = "evidence/keys/"
	keyStarted   = "evidence/started"
	keyWitnesses = "evidence/witnesses"
)

// SealWrapped are the prefixes that Vault Enterprise is to seal-wrap.
func SealWrapped() []string { return []string{prefixKeys} }

// place is the storage of the nth log.
type place int64

func (n place) prefix(what string) string {
	return fmt.Sprintf("evidence/log/%06d/%s/", int64(n), what)
}

func (n place) epoch(what string, epoch int64) string {
	return fmt.Sprintf("%s%012d/", n.prefix(what), epoch)
}

func (n place) ended(what string, size int64) string {
	return n.epoch(what, (size-1)/epochSize) + sizeName(size)
}

func (n place) checkpoint(size int64) string { return n.ended("checkpoint", size) }
func (n place) chunk(size int64) string      { return n.ended("chunk", size) }
func (n place) edge(size int64) string       { return n.prefix("edge") + sizeName(size) }
func (n place) cosignatures(size int64) string {
	return n.prefix("cosignatures") + sizeName(size)
}

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

func keyName(n place, k int64) string { return fmt.Sprintf("%s%06d-%06d", prefixKeys, int64(n), k) }

// parseKeyName is the inverse of keyName, without its prefix.
func parseKeyName(name string) (n place, k int64, ok bool) {
	log, key, _ := strings.Cut(name, "-")
	number, err := strconv.ParseInt(log, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	k, err = strconv.ParseInt(key, 10, 64)
	n = place(number)
	return n, k, err == nil && number > 0 && k > 0 && prefixKeys+name == keyName(n, k)
}
