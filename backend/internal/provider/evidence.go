// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kms"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// denialsEvery bounds how often a provider that denies and opens in turn is logged.
const denialsEvery = 10 * time.Minute

// UseLedger lets the ledger know of changes. It is called before the store is used.
func (s *Store) UseLedger(l *ledger.Ledger) { s.ledger = l }

// changed returns what an entry carries after a change, with its event if there is one.
func (s *Store) changed(ctx context.Context, name string, carried []ledger.Event, before, after *Config) ([]ledger.Event, error) {
	carried = s.ledger.Unlogged(ctx, carried)
	c := change(before, after)
	if after != nil && len(c.Old)+len(c.New) == 0 {
		return carried, nil
	}
	h, err := s.ledger.Head(ctx, "")
	if err != nil {
		return nil, err
	}
	return ledger.Carry(carried, h, &evidence.ProviderChanged{Provider: name, Change: c}, name)
}

// change is what differs between two settings. A credential that differs is in both, as
// [Configured].
func change(before, after *Config) evidence.Change {
	c := evidence.Change{Old: before.values(), New: after.values()}
	for name, old := range c.Old {
		now, has := c.New[name]
		if !has || now != old {
			continue
		}
		parameter := strings.TrimPrefix(name, parameterPrefix)
		if old == Configured && before.Parameters[parameter] != after.Parameters[parameter] {
			continue
		}
		delete(c.Old, name)
		delete(c.New, name)
	}
	return c
}

const parameterPrefix = "parameters."

// values are the settings as the evidence log has them: no credential, and of what is long
// or does not print, as a certificate, the SHA-256.
func (c *Config) values() evidence.Values {
	if c == nil {
		return evidence.Values{}
	}
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
	v := evidence.Values{
		"type": c.Type, "lease": seconds(c.Lease), "grace": seconds(c.Grace), "timeout": seconds(c.Timeout),
		"mount": strconv.FormatBool(c.Mount),
	}
	if len(c.Tenants) > 0 {
		v["tenants"] = abridged(strings.Join(c.Tenants, ","))
	}
	if c.Socket != "" {
		v["socket"] = abridged(c.Socket)
	}
	for name, value := range c.Parameters {
		v[parameterPrefix+name] = abridged(value)
		if slices.Contains(kms.Credentials(c.Type), name) {
			v[parameterPrefix+name] = Configured
		}
	}
	return v
}

// maxValue bounds the bytes of a value in an event, which has a bound of its own.
const maxValue = 128

func abridged(value string) string {
	if len(value) <= maxValue && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// noteDenial has LogDenial called if what came of opening a KEK differs from what the
// provider's entry says.
func (s *Store) noteDenial(name, kekID string, known *denial, err error) {
	denies := errors.Is(err, ErrDenied)
	switch {
	case s.ledger == nil:
	case denies && known.mayBegin(s.now()):
		s.in.Denial(name, kekID)
	case err == nil && known != nil && !known.Ended:
		s.in.Denial(name, "")
	}
}

// mayBegin reports whether another denial is to be logged.
func (d *denial) mayBegin(now time.Time) bool {
	return d == nil || d.Ended && now.Sub(d.Since) >= denialsEvery
}

// LogDenial has the evidence log told that a provider refuses to open a KEK, once until the
// provider has opened one again, of which LogDenial is told with an empty ID. It is called
// in the background: nobody waits for it.
func (s *Store) LogDenial(ctx context.Context, name, kekID string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	now, err := s.existing(ctx, name)
	if errors.Is(err, ErrNotFound) || storage.IsDamaged(err) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case kekID == "" && now.Denial != nil && !now.Denial.Ended:
		now.Denial.Ended = true
		now.Unlogged = s.ledger.Unlogged(ctx, now.Unlogged)
		return s.put(ctx, name, now)
	case kekID == "" || !now.Denial.mayBegin(s.now()):
		return nil
	}
	h := evidence.Head{Time: s.now(), Actor: evidence.System}
	now.Denial = &denial{Since: h.Time}
	now.Unlogged, err = ledger.Carry(s.ledger.Unlogged(ctx, now.Unlogged), h, &evidence.ProviderDenied{Provider: name, KeyID: kekID}, name, kekID)
	if err != nil {
		return err
	}
	return s.put(ctx, name, now)
}

// MayLack reports whether the entries are to be read for events that the evidence log may
// lack.
func (s *Store) MayLack(now time.Time) bool { return s.ledger != nil && s.watch.Due(now) }

// TellAgain tells the ledger of the events that the entries carry and the log lacks, and
// deletes the entries of deleted providers whose events it has. While lock is held no KEK
// comes under a provider.
func (s *Store) TellAgain(ctx context.Context, now time.Time, lock sync.Locker) error {
	if !s.MayLack(now) {
		return nil
	}
	s.watch.Begin(now)
	names, err := s.mount.List(ctx, prefix)
	for _, name := range names {
		if again := s.tellOne(ctx, name, lock); again != nil {
			err = errors.Join(err, again)
		}
	}
	if err != nil {
		s.watch.Again()
	}
	return err
}

func (s *Store) tellOne(ctx context.Context, name string, lock sync.Locker) error {
	read, err := s.stored(ctx, name)
	if storage.IsDamaged(err) || err == nil && (read == nil || !read.Deleted && len(read.Unlogged) == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	lacks, err := s.ledger.Lacks(ctx, read.Unlogged)
	if err != nil || !lacks && !read.Deleted {
		return err
	}
	return s.settle(ctx, name, lock, read, lacks)
}

// settle puts an entry again whose events the log lacks, and tells of them, or deletes one
// that says that its provider is deleted, if it is as it was read.
func (s *Store) settle(ctx context.Context, name string, lock sync.Locker, read *entry, lacks bool) error {
	lock.Lock()
	defer lock.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	now, err := s.stored(ctx, name)
	switch {
	case err != nil || now == nil:
		return err
	case lacks:
		if now.Deleted {
			s.watch.Again()
		}
		return s.put(ctx, name, now)
	case now.Deleted && reflect.DeepEqual(now, read):
		return s.mount.Delete(ctx, prefix+name)
	}
	return nil
}
