// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A key signs the checkpoints of one log.
type key struct {
	number int64
	signer note.Signer
	storedKey
}

// storedKey is a key's entry, which is written once.
type storedKey struct {
	Secret    string    `json:"secret"`
	VKey      string    `json:"vkey"`
	CreatedAt time.Time `json:"created_at"`
	// Event is what the log says of a rotation to this key: what decided it.
	Event *evidence.Head `json:"event,omitempty"`
}

// A keyset is what storage has of the keys of one log.
type keyset struct {
	log  place
	keys []*key // sorted
	// greatest is the greatest number that List shows; unreadable that of a key whose
	// Get fails, 0 for none.
	greatest, unreadable int64
}

// readKeys reads the keys of the greatest log. A key that List shows and Get does not is
// left out: the Put that hides it failed, so nothing was signed with it.
func (l *Log) readKeys(ctx context.Context) (*keyset, error) {
	names, err := l.storage.List(ctx, prefixKeys)
	if err != nil {
		return nil, err
	}
	set := &keyset{}
	var numbers []int64
	for _, name := range names {
		log, k, ok := parseKeyName(name)
		if !ok || log < set.log {
			continue
		}
		if log > set.log {
			set.log, numbers = log, nil
		}
		numbers = append(numbers, k)
	}
	slices.Sort(numbers)
	for _, k := range numbers {
		set.greatest = k
		raw, err := l.storage.Get(ctx, keyName(set.log, k))
		if err == nil && raw == nil {
			continue
		}
		var found *key
		if err == nil {
			found, err = openKey(k, raw)
		}
		if err != nil {
			set.unreadable = k
			continue
		}
		set.keys = append(set.keys, found)
	}
	return set, nil
}

func openKey(k int64, raw []byte) (*key, error) {
	found := &key{number: k}
	if err := json.Unmarshal(raw, &found.storedKey); err != nil {
		return nil, fmt.Errorf("%w: a signing key", ErrDamaged)
	}
	var err error
	if found.signer, err = note.NewSigner(found.Secret); err != nil {
		return nil, fmt.Errorf("%w: a signing key", ErrDamaged)
	}
	return found, nil
}

// newKey makes the next key of a log. The key signs nothing before its Put succeeded.
func (l *Log) newKey(ctx context.Context, n place, k int64, event *evidence.Head) (*key, error) {
	secret, vkey, err := note.GenerateKey(l.random, l.origin(n))
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	raw, err := json.Marshal(storedKey{ //nolint:gosec // its place is seal-wrapped storage
		Secret: secret, VKey: vkey, CreatedAt: l.now().UTC(), Event: event,
	})
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	if err := l.persist(ctx, func(ctx context.Context) error {
		return l.storage.PutSealWrapped(ctx, keyName(n, k), raw)
	}); err != nil {
		return nil, err
	}
	return openKey(k, raw)
}

// signers says which keys sign a checkpoint: the new one, too, where its entry ends it.
func (s *keyset) signers(current *key, leaves [][]byte) []*key {
	event, err := evidence.Decode(leaves[len(leaves)-1])
	if err != nil {
		return []*key{current}
	}
	if rotated, ok := event.Detail.(*evidence.KeyRotated); ok && rotated.Old == current.VKey {
		for _, k := range s.keys {
			if k.VKey == rotated.New {
				return []*key{current, k}
			}
		}
	}
	return []*key{current}
}

func sign(origin string, t *tree, keys []*key) ([]byte, error) {
	signers := make([]note.Signer, 0, len(keys))
	for _, k := range keys {
		signers = append(signers, k.signer)
	}
	return evidence.SignCheckpoint(origin, treeOf(t), signers...)
}

var errNoKey = errors.New("the signing key of the log cannot be read")

// current returns the newest of the keys that signed a checkpoint. If a newer key cannot
// be read, it may be the one.
func (s *keyset) current(signed []string) (*key, error) {
	for _, k := range slices.Backward(s.keys) {
		if slices.Contains(signed, k.VKey) && k.number > s.unreadable {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrDamaged, errNoKey)
}

// newest returns the newest key, nil if there is none to begin a log with.
func (s *keyset) newest() *key {
	if len(s.keys) == 0 {
		return nil
	}
	return s.keys[len(s.keys)-1]
}

func (s *keyset) vkeys() []string {
	all := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		all = append(all, k.VKey)
	}
	return all
}
