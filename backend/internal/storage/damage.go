// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrDamaged reports an entry that cannot be read, however often it is read, or a
// prefix that cannot be listed. Every other error of a read may pass: the caller tries
// again.
var ErrDamaged = errors.New("damaged in storage")

// DamagedError is an [ErrDamaged]. It names the kind of the entry and never its content.
type DamagedError struct {
	Kind string // what the entry's key begins with, such as pages
	Err  error  // what storage said
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s: %s: %s", e.Kind, ErrDamaged, e.Err) }

// Unwrap returns [ErrDamaged] and what storage said.
func (e *DamagedError) Unwrap() []error { return []error{ErrDamaged, e.Err} }

// IsDamaged reports whether err says that an entry is damaged.
func IsDamaged(err error) bool { return errors.Is(err, ErrDamaged) }

// permanent are texts of Vault's barrier, which authenticates each entry. Over gRPC an
// error arrives as text. Altered bytes never arrive: the Get fails, each time.
var permanent = []string{
	"cipher: message authentication failed",
	"no decryption key available for term",
	"invalid cipher length",
	"version bytes mis-match",
}

const (
	// An entry whose reads fail for another reason is damaged once so many of them have
	// failed over so long, while between any two of them another entry was read. Storage
	// that fails altogether damages nothing.
	suspectFailures = 5
	suspectFor      = time.Minute
	// maxTracked bounds the entries that are watched.
	maxTracked = 10_000
)

// damage tells entries that are damaged from storage that has trouble.
type damage struct {
	reads    atomic.Uint64 // that succeeded
	tracking atomic.Int64  // len(suspects) + len(known)

	mu       sync.Mutex
	suspects map[string]*suspect
	checked  int             // counts what Recheck has read
	known    map[string]bool // true: it can be read, and is malformed
	found    func(key string, err error)
}

// suspect is an entry whose reads fail.
type suspect struct {
	since    time.Time
	failures int
	reads    uint64 // of other entries, when it failed last
}

// Kind is what the key of an entry begins with.
func Kind(key string) string {
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

// readable notes that an entry was read, written or deleted with success.
func (d *damage) readable(key string) {
	if d.tracking.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.suspects, key)
	delete(d.known, key)
	d.count()
}

func (d *damage) count() { d.tracking.Store(int64(len(d.suspects) + len(d.known))) }

// judge returns the error of a read of key as a [DamagedError] if it is permanent.
func (d *damage) judge(key string, err error) error {
	if err == nil || passes(err) {
		return err
	}
	damaged, isNew := d.sentence(key, err)
	if damaged == nil {
		return err
	}
	d.report(key, damaged, isNew)
	return damaged
}

// sentence returns nil while an error of a read of key may pass, and whether the entry is
// found to be damaged by this read.
func (d *damage) sentence(key string, err error) (damaged *DamagedError, isNew bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.count()
	if _, known := d.known[key]; !known && !says(err, permanent) && !d.outlasts(key) {
		return nil, false
	}
	return &DamagedError{Kind(key), err}, d.note(key, false)
}

var errMalformed = errors.New("the entry is malformed")

// malformed is the error of an entry that was read and does not decode. What the
// decoder says may quote the content.
func (d *damage) malformed(key string) error {
	err := &DamagedError{Kind(key), errMalformed}
	d.report(key, err, d.noteMalformed(key))
	return err
}

func (d *damage) noteMalformed(key string) (isNew bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.count()
	return d.note(key, true)
}

// note keeps an entry as damaged, and reports whether it was not. d.mu is held.
func (d *damage) note(key string, malformed bool) (isNew bool) {
	if _, known := d.known[key]; known || len(d.known) >= maxTracked {
		return false
	}
	if d.known == nil {
		d.known = map[string]bool{}
	}
	d.known[key] = malformed
	delete(d.suspects, key)
	return true
}

// report tells of an entry the first time that it is found to be damaged. The caller
// holds no lock: who is told takes locks under which others read the mount.
func (d *damage) report(key string, err error, isNew bool) {
	if isNew && d.found != nil {
		d.found(key, err)
	}
}

// outlasts reports whether reads of key have failed often and long enough, while others
// have succeeded. d.mu is held.
func (d *damage) outlasts(key string) bool {
	reads := d.reads.Load()
	s := d.suspects[key]
	if s == nil {
		if len(d.suspects) < maxTracked {
			if d.suspects == nil {
				d.suspects = map[string]*suspect{}
			}
			d.suspects[key] = &suspect{time.Now(), 1, reads}
		}
		return false
	}
	if s.reads != reads {
		s.reads = reads
		s.failures++
	}
	return s.failures >= suspectFailures && time.Since(s.since) >= suspectFor
}

// passes reports whether the caller, and not storage, ended a read.
func passes(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		says(err, []string{context.Canceled.Error(), context.DeadlineExceeded.Error()})
}

func says(err error, texts []string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(err.Error(), text) })
}

// OnDamage calls f once for each entry that is found to be damaged; a prefix that
// cannot be listed ends in a slash. f is called on the goroutine of the read, whose caller
// may hold locks; the mount holds none of its own. OnDamage is called before the mount is
// used.
func (m *Mount) OnDamage(f func(key string, err error)) { m.damage.found = f }

// checkedAtOnce bounds the entries that Recheck reads.
const checkedAtOnce = 200

// Recheck reads again what could not be read, some of it each time: so damage that has
// healed is forgotten, and trouble that stays becomes damage though nobody asks.
func (m *Mount) Recheck(ctx context.Context) {
	for _, key := range m.damage.toCheck() {
		if ctx.Err() != nil {
			return
		}
		if strings.HasSuffix(key, "/") {
			_, _ = m.List(ctx, key)
		} else {
			_, _ = m.Get(ctx, key)
		}
	}
}

// toCheck returns some of the entries that could not be read when they were last.
func (d *damage) toCheck() (keys []string) {
	if d.tracking.Load() == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, malformed := range d.known {
		if !malformed {
			keys = append(keys, key)
		}
	}
	keys = slices.AppendSeq(keys, maps.Keys(d.suspects))
	slices.Sort(keys)
	if len(keys) <= checkedAtOnce {
		return keys
	}
	from := d.checked % len(keys)
	d.checked += checkedAtOnce
	return slices.Concat(keys[from:], keys[:from])[:checkedAtOnce]
}

// Damaged counts the entries that are known to be damaged, by their kind. An entry
// that was read or written since is not among them.
func (m *Mount) Damaged() map[string]int {
	m.damage.mu.Lock()
	defer m.damage.mu.Unlock()
	kinds := map[string]int{}
	for key := range maps.Keys(m.damage.known) {
		kinds[Kind(key)]++
	}
	return kinds
}
