// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func tenantOf(id string) *Record {
	return &Record{
		ID: id, Incarnation: keyring.NewIncarnation(), State: Active, CreatedAt: time.Now(),
		Keys: keyring.NewRing("dek-1", keyring.DefaultKeyType, time.Now()),
	}
}

func TestPagesOfTheRoll(t *testing.T) {
	ctx := context.Background()
	s := NewStore(storage.NewMount(storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)))
	var want []string
	for range 500 {
		id := uuid.NewString()
		want = append(want, id)
		require.NoError(t, s.put(ctx, tenantOf(id)))
		if len(want) == 100 { // half is known, half is to come
			n, err := s.Count(ctx)
			require.NoError(t, err)
			require.Equal(t, 100, n)
		}
	}
	slices.Sort(want)
	all, err := s.IDs(ctx, "", 0)
	require.NoError(t, err)
	require.Equal(t, want, all)
	var paged []string
	for after := ""; ; after = paged[len(paged)-1] {
		page, err := s.IDs(ctx, after, 7)
		require.NoError(t, err)
		if paged = append(paged, page...); len(page) < 7 {
			break
		}
	}
	require.Equal(t, want, paged)
	some, err := s.IDs(ctx, "8", 3) // what is not an ID has a place, too
	require.NoError(t, err)
	at, _ := slices.BinarySearch(want, "8")
	require.Equal(t, want[at:at+3], some)
}

// A creation whose error hides that it took effect, made again while Vault's
// cache still shows nothing, is one tenant.
func TestTenantIsCountedOnce(t *testing.T) {
	ctx := context.Background()
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale} {
		entries := storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)
		s := NewStore(storage.NewMount(entries))
		id := uuid.NewString()
		count := func() int {
			n, err := s.Count(ctx)
			require.NoError(t, err)
			return n
		}
		require.Zero(t, count())
		entries.Fail(func(op, key string) storagetest.Fault {
			if op == "put" && strings.HasPrefix(key, "tenants/") {
				return fault
			}
			return storagetest.None
		})
		require.Error(t, s.put(ctx, tenantOf(id)))
		entries.Fail(nil)
		count()
		tenant := tenantOf(id)
		require.NoError(t, s.put(ctx, tenant))
		require.Equal(t, 1, count(), fault)
		require.NoError(t, s.Hold(ctx, id, func(h *Held) error { return h.Finalize(ctx, Tombstone{}) }))
		require.Zero(t, count(), fault)
	}
}
