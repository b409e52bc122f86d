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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
)

// walRotation is the kind of the log entries that a rotation leaves while it is
// unfinished. They are the list of unfinished rotations.
const walRotation = "rotation"

// errUnfinished keeps an entry of the log: a nil would delete it.
var errUnfinished = errors.New("the rotation is unfinished and being worked on")

// intentLog keeps intents in the framework's write-ahead log.
type intentLog struct{ storage logical.Storage }

func (l intentLog) Put(ctx context.Context, i rotation.Intent) (string, error) {
	return framework.PutWAL(context.WithoutCancel(ctx), l.storage, walRotation, i)
}

func (l intentLog) Delete(ctx context.Context, id string) error {
	if err := framework.DeleteWAL(context.WithoutCancel(ctx), l.storage, id); err != nil {
		return fmt.Errorf("deleting the intent: %w", err)
	}
	return nil
}

// intents lists the log.
func (b *backend) intents(ctx context.Context) ([]rotation.Intent, error) {
	ids, err := framework.ListWAL(ctx, b.storage)
	if err != nil {
		return nil, fmt.Errorf("listing the write-ahead log: %w", err)
	}
	var intents []rotation.Intent
	for _, id := range ids {
		entry, err := framework.GetWAL(ctx, b.storage, id)
		if err != nil {
			return nil, fmt.Errorf("reading the write-ahead log: %w", err)
		}
		if entry == nil || entry.Kind != walRotation {
			continue
		}
		i, err := decodeIntent(entry.Data)
		if err != nil {
			// It must not keep the other rotations from being worked on.
			b.Logger().Error("an entry of the write-ahead log cannot be read", "wal_id", id, "error", err)
			continue
		}
		i.ID = id
		intents = append(intents, i)
	}
	return intents, nil
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

// walRollback is called for entries older than ten minutes, counted from their
// creation: so for a rotation that is running well, too. The entry is kept
// unless the rotation is over or never started; Resume tells, and deletes it
// then itself. Vault does not log the error.
func (b *backend) walRollback(ctx context.Context, _ *logical.Request, kind string, data any) error {
	if kind != walRotation {
		return fmt.Errorf("write-ahead log entry of unknown kind %q", kind)
	}
	if !b.WriteSafeReplicationState() {
		return errUnfinished // not this node's to decide
	}
	wanted, err := decodeIntent(data)
	if err != nil {
		return err // intents logs it
	}
	intents, err := b.intents(ctx) // the framework does not pass the entry's ID
	if err != nil {
		return err
	}
	for _, i := range intents {
		if i.RotationID == wanted.RotationID {
			b.workers.carryOut(i)
			return errUnfinished
		}
	}
	return nil
}
