// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package logkeys keeps the keys that sign the checkpoints of the evidence log. A key
// is never beneath a key provider: a provider that refuses would keep everybody's
// deletions from the log.
//
//	evidence/keys/<n>-<k>-<epoch>  signing key k of log n, seal-wrapped, written once
//
// The epoch is that of the appender that made the key. So a write of an appender that
// has been replaced never lands on the key of the next one.
package logkeys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const prefix = "evidence/keys/"

// SealWrapped are the prefixes that Vault Enterprise is to seal-wrap.
func SealWrapped() []string { return []string{prefix} }

// ErrUnreadable reports a key that is there, may be the one that signs, and cannot be
// read.
var ErrUnreadable = errors.New("the signing key of the log cannot be read")

// Storage holds the keys.
type Storage interface {
	Get(ctx context.Context, key string) ([]byte, error)
	List(ctx context.Context, prefix string) ([]string, error)
}

// A Key signs the checkpoints of one log.
type Key struct {
	name
	signer note.Signer
	stored
}

// name orders keys: by log, number and epoch.
type name struct{ Log, Number, Epoch int64 }

func (n name) String() string { return fmt.Sprintf("%06d-%06d-%012d", n.Log, n.Number, n.Epoch) }

func parseName(text string) (n name, ok bool) {
	_, err := fmt.Sscanf(text, "%d-%d-%d", &n.Log, &n.Number, &n.Epoch)
	return n, err == nil && n.Log > 0 && n.Number > 0 && n.Epoch > 0 && n.String() == text
}

// stored is a key's entry, which is written once.
type stored struct {
	Secret    string    `json:"secret"`
	VKey      string    `json:"vkey"`
	CreatedAt time.Time `json:"created_at"`
	// Event is what the log says of a rotation to this key: what decided it.
	Event *evidence.Head `json:"event,omitempty"`
}

// A Set is what storage has of the keys of one log, oldest first.
type Set struct {
	Log  int64
	Keys []*Key
	// greatest is the greatest number that List shows; unreadable that of a key whose
	// Get fails, 0 for none.
	greatest, unreadable int64
}

// Read reads the keys of the greatest log, 0 if there is none. A key that List shows and
// Get does not is left out: the Put that hides it failed, so nothing was signed with it.
func Read(ctx context.Context, s Storage) (*Set, error) {
	listed, err := s.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	slices.Sort(listed)
	set := &Set{}
	for _, text := range slices.Backward(listed) {
		n, ok := parseName(text)
		if !ok || n.Log < set.Log {
			continue
		}
		set.Log, set.greatest = n.Log, max(set.greatest, n.Number)
		raw, err := s.Get(ctx, prefix+text)
		if err == nil && raw == nil {
			continue
		}
		var found *Key
		if err == nil {
			found, err = open(n, raw)
		}
		if err != nil {
			set.unreadable = max(set.unreadable, n.Number)
			continue
		}
		set.Keys = append(set.Keys, found)
	}
	slices.Reverse(set.Keys)
	return set, nil
}

func open(n name, raw []byte) (*Key, error) {
	found := &Key{name: n}
	if err := json.Unmarshal(raw, &found.stored); err != nil {
		return nil, ErrUnreadable
	}
	var err error
	if found.signer, err = note.NewSigner(found.Secret); err != nil {
		return nil, ErrUnreadable
	}
	return found, nil
}

// Make makes the next key of the set's log, and returns the entry that is to be put
// before the key signs anything.
func (s *Set) Make(random io.Reader, origin string, epoch int64, now time.Time, event *evidence.Head) (k *Key, entry string, raw []byte, err error) {
	n := name{Log: s.Log, Number: s.greatest + 1, Epoch: epoch}
	secret, vkey, err := note.GenerateKey(random, origin)
	if err != nil {
		return nil, "", nil, fmt.Errorf("making a signing key: %w", err)
	}
	raw, err = json.Marshal(stored{ //nolint:gosec // its place is seal-wrapped storage
		Secret: secret, VKey: vkey, CreatedAt: now.UTC(), Event: event,
	})
	if err != nil {
		return nil, "", nil, fmt.Errorf("making a signing key: %w", err)
	}
	k, err = open(n, raw)
	return k, prefix + n.String(), raw, err
}

// With returns the set with one more key.
func (s *Set) With(k *Key) *Set {
	return &Set{
		Log: s.Log, Keys: append(slices.Clone(s.Keys), k),
		greatest: max(s.greatest, k.Number), unreadable: s.unreadable,
	}
}

// Signers says which keys sign a checkpoint that ends with an entry: the new one, too,
// where the entry introduces it.
func (s *Set) Signers(current *Key, last []byte) []*Key {
	event, err := evidence.Decode(last)
	if err != nil {
		return []*Key{current}
	}
	if rotated, ok := event.Detail.(*evidence.LogKeyRotated); ok && rotated.Old == current.VKey {
		for _, k := range s.Keys {
			if k.VKey == rotated.New {
				return []*Key{current, k}
			}
		}
	}
	return []*Key{current}
}

// Sign signs the checkpoint of a tree. The same keys make the same bytes.
func Sign(origin string, t tlog.Tree, keys []*Key) ([]byte, error) {
	signers := make([]note.Signer, 0, len(keys))
	for _, k := range keys {
		signers = append(signers, k.signer)
	}
	return evidence.SignCheckpoint(origin, t, signers...)
}

// Current returns the newest of the keys that signed a checkpoint. If a newer key cannot
// be read, it may be the one: [ErrUnreadable].
func (s *Set) Current(signed []string) (*Key, error) {
	for _, k := range slices.Backward(s.Keys) {
		if slices.Contains(signed, k.VKey) && k.Number > s.unreadable {
			return k, nil
		}
	}
	return nil, ErrUnreadable
}

// Newest returns the newest key, nil if there is none to begin a log with.
func (s *Set) Newest() *Key {
	if len(s.Keys) == 0 {
		return nil
	}
	return s.Keys[len(s.Keys)-1]
}

// VKeys returns the verifier keys.
func (s *Set) VKeys() []string {
	all := make([]string, 0, len(s.Keys))
	for _, k := range s.Keys {
		all = append(all, k.VKey)
	}
	return all
}
