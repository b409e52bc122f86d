// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// rotation is the event of a switch from one signing key to another.
func rotation(from, to *logkeys.Key) Pending {
	return Pending{Event: evidence.Event{
		Head: *to.Event, Detail: &evidence.LogKeyRotated{Old: from.VKey, New: to.VKey},
	}}
}

// RotateKey makes a new signing key and logs that, with what head says of who asked and
// why. The checkpoint that ends with the entry has the signatures of both keys, later
// ones that of the new. If ctx ends first, the rotation goes on; asked for again, it is
// the same.
func (l *Log) RotateKey(ctx context.Context, head evidence.Head) (vkey string, err error) {
	if _, err := l.snapshot(ctx); err != nil {
		return "", err
	}
	l.rotating.Lock()
	defer l.rotating.Unlock()
	l.mu.RLock()
	t, set, signing, epoch := l.tree, l.keys, l.key, l.epoch
	l.mu.RUnlock()
	newest := set.Newest()
	if newest.Number == signing.Number {
		head.EventID = evidence.EventID(l.origin(t.log), evidence.TypeEvidenceKeyRotated, signing.VKey)
		if newest, err = l.newKey(ctx, set, epoch, &head); err != nil {
			return "", err
		}
		l.mu.Lock()
		l.keys = l.keys.With(newest)
		l.mu.Unlock()
	}
	_, err = l.Append(ctx, rotation(signing, newest))
	return newest.VKey, err
}

// Key describes the key that signs the log.
type Key struct {
	VKey      string
	Origin    string
	CreatedAt time.Time
	// Previous are older keys of this log, oldest first.
	Previous []string
}

// Key returns the key that signs the log at present.
func (l *Log) Key(ctx context.Context) (*Key, error) {
	if _, err := l.snapshot(ctx); err != nil {
		return nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	k := &Key{VKey: l.key.VKey, Origin: l.origin(l.tree.log), CreatedAt: l.key.CreatedAt, Previous: []string{}}
	for _, older := range l.keys.Keys {
		if older.Number < l.key.Number {
			k.Previous = append(k.Previous, older.VKey)
		}
	}
	return k, nil
}
