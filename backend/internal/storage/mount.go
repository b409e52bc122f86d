// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package storage is the way to a mount's entries in Vault's storage. No other
// package calls [logical.Storage], but for the adapter to Vault's write-ahead log.
// It knows no prefix: each package of the engine names its own entries.
//
// # Writes that fail
//
// A write that returns an error may have taken effect, and Vault's cache may
// then show the old value while List, which is not cached, shows the new one
// (sdk/physical/cache.go). The caller resolves that by repeating the same write
// or by dropping what it has cached, never by trusting a Get.
//
// A write goes on when its request is given up: to cancel a Put does not undo
// it, and would only leave open whether it took effect.
//
// # Reads that fail
//
// A read that fails with [ErrDamaged] fails each time: that one entry is damaged, and
// storage is not. Any other error may pass.
package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"
)

// ErrContended reports an operation that met a concurrent change at every try.
var ErrContended = errors.New("too many concurrent changes, try again")

// ErrNewer reports a mount whose entries have a format that this version does not know.
var ErrNewer = errors.New("a newer version of the plugin has written this mount's storage, in a format that this version does not know: " +
	"run that version again, or a later one")

// HeldReadOnly reports whether err says that Vault refuses every write of the mount
// until the active node steps down or restarts: it took the mount up while the plugin
// could not be started. Over gRPC the error comes as text.
func HeldReadOnly(err error) bool {
	return err != nil && strings.Contains(err.Error(), logical.ErrSetupReadOnly.Error())
}

// deletesInFlight bounds the entries that DeleteBelow deletes at once.
const deletesInFlight = 32

// Mount is the storage of one mount. It is safe for concurrent use.
type Mount struct {
	storage logical.Storage
	damage  damage
}

// NewMount returns the entries that s holds.
func NewMount(s logical.Storage) *Mount { return &Mount{storage: s} }

// get reads an entry, nil if none shows.
func (m *Mount) get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	entry, err := m.storage.Get(ctx, key)
	if err != nil {
		return nil, m.damage.judge(key, err)
	}
	m.damage.reads.Add(1)
	return entry, nil
}

// Get returns the value of the entry at key, nil if none shows. The value of an
// entry that is empty is not nil. It fails with [ErrDamaged].
func (m *Mount) Get(ctx context.Context, key string) ([]byte, error) {
	entry, err := m.get(ctx, key)
	if err != nil {
		return nil, err
	}
	m.damage.readable(key)
	switch {
	case entry == nil:
		return nil, nil
	case entry.Value == nil: // so an empty value arrives over gRPC
		return []byte{}, nil
	}
	return entry.Value, nil
}

// GetJSON decodes the entry at key into v, and reports whether there is one. It fails
// with [ErrDamaged], also if the entry is not JSON.
func (m *Mount) GetJSON(ctx context.Context, key string, v any) (found bool, err error) {
	entry, err := m.get(ctx, key)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", key, err)
	}
	if entry == nil {
		m.damage.readable(key)
		return false, nil
	}
	if err := entry.DecodeJSON(v); err != nil {
		return false, fmt.Errorf("decoding %s: %w", key, m.damage.malformed(key))
	}
	m.damage.readable(key)
	return true, nil
}

// Put stores value at key.
func (m *Mount) Put(ctx context.Context, key string, value []byte) error {
	return m.put(ctx, &logical.StorageEntry{Key: key, Value: value})
}

// PutSealWrapped is Put for a key: Vault Enterprise wraps the value with its seal
// on top of the barrier.
func (m *Mount) PutSealWrapped(ctx context.Context, key string, value []byte) error {
	return m.put(ctx, &logical.StorageEntry{Key: key, Value: value, SealWrap: true})
}

// PutJSON stores v, encoded, at key.
func (m *Mount) PutJSON(ctx context.Context, key string, v any) error {
	entry, err := logical.StorageEntryJSON(key, v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", key, err)
	}
	return m.put(ctx, entry)
}

// PutJSONSealWrapped is PutJSON for what holds a credential.
func (m *Mount) PutJSONSealWrapped(ctx context.Context, key string, v any) error {
	entry, err := logical.StorageEntryJSON(key, v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", key, err)
	}
	entry.SealWrap = true
	return m.put(ctx, entry)
}

func (m *Mount) put(ctx context.Context, entry *logical.StorageEntry) error {
	if err := m.storage.Put(context.WithoutCancel(ctx), entry); err != nil {
		return fmt.Errorf("writing %s: %w", entry.Key, err)
	}
	m.damage.readable(entry.Key)
	return nil
}

// Delete deletes the entry at key. One that is not there is no error.
func (m *Mount) Delete(ctx context.Context, key string) error {
	if err := m.storage.Delete(context.WithoutCancel(ctx), key); err != nil {
		return fmt.Errorf("deleting %s: %w", key, err)
	}
	m.damage.readable(key)
	return nil
}

// List lists the names directly below prefix, which ends in a slash. It fails with
// [ErrDamaged].
func (m *Mount) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := m.storage.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", prefix, m.damage.judge(prefix, err))
	}
	m.damage.readable(prefix)
	return names, nil
}

// DeleteTree deletes everything below prefix, which ends in a slash.
func (m *Mount) DeleteTree(ctx context.Context, prefix string) error {
	names, err := m.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, "/") {
			continue
		}
		if err := m.DeleteTree(ctx, prefix+name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	return m.DeleteBelow(ctx, prefix)
}

// DeleteBelow deletes the entries directly below prefix, which ends in a slash.
func (m *Mount) DeleteBelow(ctx context.Context, prefix string) error {
	names, err := m.List(ctx, prefix)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesInFlight)
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			continue // a prefix of others
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return m.Delete(ctx, prefix+name)
		})
	}
	return g.Wait()
}
