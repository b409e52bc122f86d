// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/mitchellh/mapstructure"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// The kinds of entries in the log.
const (
	// walRotation marks the intents of rotations. They are the list of unfinished
	// rotations.
	walRotation = "rotation"
	// walCreation marks the intents of creations, which are deleted once the tenant's
	// record is written.
	walCreation = "creation"
)

// intentLog keeps intents in the framework's write-ahead log.
type intentLog struct{ storage logical.Storage }

// Put adds an entry and returns its ID.
func (l intentLog) Put(ctx context.Context, i rotation.Intent) (string, error) {
	kind := walRotation
	if i.IsCreation() {
		kind = walCreation
	}
	return framework.PutWAL(context.WithoutCancel(ctx), l.storage, kind, i)
}

// Delete removes an entry; one that is not there is no error.
func (l intentLog) Delete(ctx context.Context, id string) error {
	if err := framework.DeleteWAL(context.WithoutCancel(ctx), l.storage, id); err != nil {
		return fmt.Errorf("deleting the intent: %w", err)
	}
	return nil
}

// readLog reads the whole log, many entries at once. An entry that cannot be decoded, or
// read, stays where it is, and keeps no other from being worked on; whole is false if there
// is one. With an error it returns what it has read.
func (b *backend) readLog(ctx context.Context) (all []rotation.Intent, whole bool, err error) {
	ids, err := b.mount.List(ctx, framework.WALPrefix)
	if storage.IsDamaged(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing the write-ahead log: %w", err)
	}
	found := make([]*rotation.Intent, len(ids))
	var lacking atomic.Bool
	err = storage.Each(ctx, len(ids), func(n int) error {
		// Not by GetWAL: its error does not tell storage that fails, where all is to be
		// tried again, from an entry that is damaged.
		stored, err := b.mount.Get(ctx, framework.WALPrefix+ids[n])
		if err != nil && !storage.IsDamaged(err) {
			return fmt.Errorf("reading the write-ahead log: %w", err)
		}
		found[n] = b.intentIn(ids[n], stored, err)
		if found[n] == nil {
			lacking.Store(true)
		}
		return nil
	})
	for _, i := range found {
		if i != nil {
			all = append(all, *i)
		}
	}
	return all, !lacking.Load(), err
}

// intentIn returns the intent in an entry that was read, or failed to be; nil if there is
// none that can be made out.
func (b *backend) intentIn(id string, stored []byte, failed error) *rotation.Intent {
	if failed == nil && stored == nil {
		return nil // it was just deleted, or is hidden
	}
	var i rotation.Intent
	if failed == nil {
		i, failed = decodeIntent(&logical.StorageEntry{Value: stored})
	}
	if failed != nil {
		b.unreadable(id, failed)
		return nil
	}
	i.ID = id
	return &i
}

// unfinishedWork returns what the log lists and, if an entry of it is damaged, the
// rotations that the tenants' records tell of. A record names its rotation's entry,
// which is deleted when that has ended.
func (b *backend) unfinishedWork(ctx context.Context) ([]rotation.Intent, error) {
	all, whole, err := b.readLog(ctx)
	if whole {
		return all, err
	}
	known := map[string]bool{}
	for _, i := range all {
		known[i.RotationID] = true
	}
	told, toldErr := b.schedule.Unfinished(ctx)
	for _, i := range told {
		if !known[i.RotationID] {
			all = append(all, i)
		}
	}
	return all, errors.Join(err, toldErr)
}

// unreadable logs, once, that an entry of the log cannot be decoded.
func (b *backend) unreadable(id string, err error) {
	if _, known := b.unreadableEntries.LoadOrStore(id, true); !known {
		b.Logger().Error("an entry of the write-ahead log cannot be read, and is kept", "wal_id", id, "error", err)
	}
}

// intents lists the rotations that may be unfinished.
func (b *backend) intents(ctx context.Context) ([]rotation.Intent, error) {
	all, err := b.unfinishedWork(ctx)
	return slices.DeleteFunc(all, rotation.Intent.IsCreation), err
}

var errIncomplete = errors.New("an intent in the write-ahead log is incomplete")

func decodeIntent(stored *logical.StorageEntry) (i rotation.Intent, err error) {
	var entry framework.WALEntry
	if err := stored.DecodeJSON(&entry); err != nil {
		return i, fmt.Errorf("decoding an entry: %w", err)
	}
	if entry.Kind != walRotation && entry.Kind != walCreation {
		return i, fmt.Errorf("an entry of unknown kind %q", entry.Kind)
	}
	if err := mapstructure.Decode(entry.Data, &i); err != nil {
		return i, fmt.Errorf("decoding an intent: %w", err)
	}
	if i.TenantID == "" || i.Incarnation == "" || i.IsCreation() != (entry.Kind == walCreation) ||
		i.IsCreation() != (i.KeyID == "") {
		return i, errIncomplete
	}
	return i, nil
}
