// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/mitchellh/mapstructure"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/creation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
)

// The kinds of entries in the log.
const (
	// walRotation is of those that a rotation leaves while it is unfinished. They
	// are the list of unfinished rotations.
	walRotation = "rotation"
	// walCreation is of those that the creation of a tenant leaves until its record
	// is written.
	walCreation = "creation"
)

// errUnfinished keeps an entry of the log: a nil would delete it.
var errUnfinished = errors.New("what the entry is about is unfinished and being worked on")

// intentLog keeps intents of one kind in the framework's write-ahead log.
type intentLog[I any] struct {
	storage logical.Storage
	kind    string
}

func rotationLog(s logical.Storage) intentLog[rotation.Intent] {
	return intentLog[rotation.Intent]{s, walRotation}
}

func creationLog(s logical.Storage) intentLog[creation.Intent] {
	return intentLog[creation.Intent]{s, walCreation}
}

// Put adds an entry and returns its ID.
func (l intentLog[I]) Put(ctx context.Context, intent I) (string, error) {
	return framework.PutWAL(context.WithoutCancel(ctx), l.storage, l.kind, intent)
}

// Delete removes an entry; one that is not there is no error.
func (l intentLog[I]) Delete(ctx context.Context, id string) error {
	if err := framework.DeleteWAL(context.WithoutCancel(ctx), l.storage, id); err != nil {
		return fmt.Errorf("deleting the intent: %w", err)
	}
	return nil
}

// unfinishedWork is what the log has.
type unfinishedWork struct {
	rotations []rotation.Intent
	creations []creation.Intent
}

// readLog reads the whole log. An entry that cannot be made out stays where it is,
// and keeps no other from being worked on.
func (b *backend) readLog(ctx context.Context) (all unfinishedWork, err error) {
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
		if err := all.add(id, stored); err != nil {
			b.unreadable(id, err)
		}
	}
	return all, nil
}

// unreadable logs, once, that an entry of the log cannot be made out.
func (b *backend) unreadable(id string, err error) {
	if _, known := b.unreadableEntries.LoadOrStore(id, true); !known {
		b.Logger().Error("an entry of the write-ahead log cannot be read, and is kept", "wal_id", id, "error", err)
	}
}

func (w *unfinishedWork) add(id string, stored *logical.StorageEntry) error {
	var entry framework.WALEntry
	if err := stored.DecodeJSON(&entry); err != nil {
		return fmt.Errorf("decoding an entry: %w", err)
	}
	switch entry.Kind {
	case walRotation:
		i, err := decodeIntent(entry.Data)
		if err != nil {
			return err
		}
		i.ID = id
		w.rotations = append(w.rotations, i)
	case walCreation:
		i, err := decodeCreation(entry.Data)
		if err != nil {
			return err
		}
		i.ID = id
		w.creations = append(w.creations, i)
	default:
		return fmt.Errorf("an entry of unknown kind %q", entry.Kind)
	}
	return nil
}

// intents lists the rotations in the log.
func (b *backend) intents(ctx context.Context) ([]rotation.Intent, error) {
	all, err := b.readLog(ctx)
	return all.rotations, err
}

func decodeIntent(data any) (i rotation.Intent, err error) {
	if err := mapstructure.Decode(data, &i); err != nil {
		return i, fmt.Errorf("decoding an intent: %w", err)
	}
	if i.TenantID == "" || i.Incarnation == "" || i.RotationID == "" || i.KeyID == "" {
		return i, errors.New("an intent in the write-ahead log is incomplete")
	}
	return i, nil
}

func decodeCreation(data any) (i creation.Intent, err error) {
	if err := mapstructure.Decode(data, &i); err != nil {
		return i, fmt.Errorf("decoding an intent: %w", err)
	}
	if i.TenantID == "" || i.Incarnation == "" {
		return i, errors.New("an intent in the write-ahead log is incomplete")
	}
	return i, nil
}

// resolve finds out, in the background, what became of a creation.
func (b *backend) resolve(i creation.Intent) {
	b.workers.untilDone("creation/"+i.Incarnation, func(ctx context.Context) error {
		return b.creation.Recover(ctx, i)
	})
}

// walRollback is called for entries that were written ten minutes ago, or longer:
// so for a rotation that is running well, too. It keeps them all, where nil would
// delete one. What the log has was taken up a moment ago, since Vault calls
// periodic first, and who finds that an entry is over deletes it: a rotation that
// has ended or never started, a creation that is settled. So nothing is to be done
// here, while Vault holds its state lock. Vault does not log the error.
func (b *backend) walRollback(context.Context, *logical.Request, string, any) error {
	return errUnfinished
}
