// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// An instance whose context ends while it holds a tenant, since another one has taken its
// place, writes and deletes no record: the other may have written a newer one.
func TestReplacedInstanceWritesNoRecord(t *testing.T) {
	disk := storagetest.NewDisk()
	s := NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
	first := tenantOf(uuid.NewString())
	require.NoError(t, s.put(t.Context(), first))
	before := disk.Value(recordKey(first.ID))
	require.NotEmpty(t, before)

	ctx, replaced := context.WithCancel(t.Context())
	err := s.Hold(ctx, first.ID, func(h *Held) error {
		replaced()
		next := h.Record().Clone()
		next.DisplayName = "of the one before"
		return h.Put(ctx, next)
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.forget(ctx, first.ID), context.Canceled)
	require.Equal(t, before, disk.Value(recordKey(first.ID)))
}
