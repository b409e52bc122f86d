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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
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
	// walShared marks entries of several intents, of either kind.
	walShared = "shared"
)

// sharedIntents is the data of an entry of several intents.
type sharedIntents struct {
	Intents []intents.Intent `json:"intents" mapstructure:"intents"`
}

// walEntries keeps intents in the framework's write-ahead log.
type walEntries struct{ storage logical.Storage }

// Put adds an entry and returns its ID.
func (l walEntries) Put(ctx context.Context, all []intents.Intent) (string, error) {
	kind, data := walShared, any(sharedIntents{all})
	if len(all) == 1 {
		kind, data = walRotation, all[0]
		if all[0].IsCreation() {
			kind = walCreation
		}
	}
	return framework.PutWAL(context.WithoutCancel(ctx), l.storage, kind, data)
}

// Delete removes an entry; one that is not there is no error.
func (l walEntries) Delete(ctx context.Context, id string) error {
	if err := framework.DeleteWAL(context.WithoutCancel(ctx), l.storage, id); err != nil {
		return fmt.Errorf("deleting the intent: %w", err)
	}
	return nil
}

// readLog reads the whole log, many entries at once. An entry that cannot be decoded, or
// read, stays where it is, and keeps no other from being worked on; whole is false if there
// is one. With an error it returns what it has read.
func (b *backend) readLog(ctx context.Context) (all []intents.Intent, whole bool, err error) {
	ids, err := b.mount.List(ctx, framework.WALPrefix)
	if storage.IsDamaged(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing the write-ahead log: %w", err)
	}
	found := make([][]intents.Intent, len(ids))
	var lacking atomic.Bool
	err = storage.Each(ctx, len(ids), func(n int) error {
		// Not by GetWAL: its error does not tell storage that fails, where all is to be
		// tried again, from an entry that is damaged.
		stored, err := b.mount.Get(ctx, framework.WALPrefix+ids[n])
		if err != nil && !storage.IsDamaged(err) {
			return fmt.Errorf("reading the write-ahead log: %w", err)
		}
		found[n] = b.intentsIn(ids[n], stored, err)
		if found[n] == nil {
			lacking.Store(true)
		}
		return nil
	})
	for n, some := range found {
		all = append(all, b.intents.Left(ids[n], some)...)
	}
	return all, !lacking.Load(), err
}

// intentsIn returns the intents in an entry that was read, or failed to be; nil if there are
// none that can be made out.
func (b *backend) intentsIn(id string, stored []byte, failed error) (all []intents.Intent) {
	if failed == nil && stored == nil {
		return nil // it was just deleted, or is hidden
	}
	if failed == nil {
		all, failed = decodeIntents(&logical.StorageEntry{Value: stored})
	}
	if failed != nil {
		b.unreadable(id, failed)
		return nil
	}
	return all
}

// unfinishedWork returns what the log lists and, if an entry of it is damaged, the
// rotations that the tenants' records tell of. A record names its rotation's entry,
// which is deleted when that has ended.
func (b *backend) unfinishedWork(ctx context.Context) ([]intents.Intent, error) {
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

// resumeUnfinished has everything unfinished worked on: the evidence log, the rotation of the
// KEK, the rotations and the interrupted creations of tenants. It does nothing, and returns
// false, on a node that may not write: a standby or secondary, whose leader does it.
func (b *backend) resumeUnfinished() bool {
	if !b.WriteSafeReplicationState() {
		return false
	}
	b.ledger.Drive()
	b.kek.Drive()
	b.jobs.Run(jobs.Job{
		ID: "unfinished", FailureMessage: "the write-ahead log could not be read",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			unfinished, err := b.unfinishedWork(ctx)
			for _, i := range unfinished {
				b.rotations.Drive(i)
			}
			return err == nil, false, err
		},
	})
	return true
}

// unreadable logs, once, that an entry of the log cannot be decoded.
func (b *backend) unreadable(id string, err error) {
	if _, known := b.unreadableEntries.LoadOrStore(id, true); !known {
		b.Logger().Error("an entry of the write-ahead log cannot be read, and is kept", "wal_id", id, "error", err)
	}
}

// unfinishedRotations lists the rotations that may be unfinished.
func (b *backend) unfinishedRotations(ctx context.Context) ([]intents.Intent, error) {
	all, err := b.unfinishedWork(ctx)
	return slices.DeleteFunc(all, intents.Intent.IsCreation), err
}

var errIncomplete = errors.New("an intent in the write-ahead log is incomplete")

// decodeIntents returns the intents in an entry, all of which are whole.
func decodeIntents(stored *logical.StorageEntry) ([]intents.Intent, error) {
	var entry framework.WALEntry
	if err := stored.DecodeJSON(&entry); err != nil {
		return nil, fmt.Errorf("decoding an entry: %w", err)
	}
	var all sharedIntents
	var err error
	switch entry.Kind {
	case walShared:
		err = mapstructure.Decode(entry.Data, &all)
	case walRotation, walCreation:
		all.Intents = make([]intents.Intent, 1)
		err = mapstructure.Decode(entry.Data, &all.Intents[0])
	default:
		return nil, fmt.Errorf("an entry of unknown kind %q", entry.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("decoding an intent: %w", err)
	}
	if len(all.Intents) == 0 || len(all.Intents) > intents.MaxShared {
		return nil, errIncomplete
	}
	for _, i := range all.Intents {
		ofKind := entry.Kind == walShared || i.IsCreation() == (entry.Kind == walCreation)
		if i.TenantID == "" || i.Incarnation == "" || !ofKind || i.IsCreation() != (i.KeyID == "") {
			return nil, errIncomplete
		}
	}
	return all.Intents, nil
}
