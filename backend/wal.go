// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/mitchellh/mapstructure"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
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

// errUnfinished keeps an entry of the log: a nil would delete it.
var errUnfinished = errors.New("what the entry is about is unfinished and being worked on")

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

// readLog reads the whole log. An entry that cannot be decoded stays where it is,
// and keeps no other from being worked on.
func (b *backend) readLog(ctx context.Context) (all []rotation.Intent, err error) {
	ids, err := framework.ListWAL(ctx, b.storage)
	if err != nil {
		return all, fmt.Errorf("listing the write-ahead log: %w", err)
	}
	for _, id := range ids {
		// Not by GetWAL: its error does not tell storage that fails, where all is to be
		// tried again, from an entry that is damaged.
		stored, err := b.storage.Get(ctx, framework.WALPrefix+id)
		if err != nil {
			return all, fmt.Errorf("reading the write-ahead log: %w", err)
		}
		if stored == nil {
			continue
		}
		i, err := decodeIntent(stored)
		if err != nil {
			b.unreadable(id, err)
			continue
		}
		i.ID = id
		all = append(all, i)
	}
	return all, nil
}

// unreadable logs, once, that an entry of the log cannot be decoded.
func (b *backend) unreadable(id string, err error) {
	if _, known := b.unreadableEntries.LoadOrStore(id, true); !known {
		b.Logger().Error("an entry of the write-ahead log cannot be read, and is kept", "wal_id", id, "error", err)
	}
}

// intents lists the rotations in the log.
func (b *backend) intents(ctx context.Context) ([]rotation.Intent, error) {
	all, err := b.readLog(ctx)
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

// walRollback is called for entries that were written ten minutes ago or longer, those
// of running rotations included. It keeps them all, where nil would delete one. The
// tick has just driven everything in the log, because Vault calls periodic first, and
// the job that finds an entry to be over deletes it. So there is nothing to do here,
// while Vault holds its state lock. Vault does not log the error.
func (b *backend) walRollback(context.Context, *logical.Request, string, any) error {
	return errUnfinished
}
