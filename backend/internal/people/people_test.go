// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package people_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/people"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

func TestPeopleAreErasable(t *testing.T) {
	disk := storagetest.NewDisk()
	store := people.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
	who := actor.Actor{ID: "entity-1", Name: "N", Email: "n@example.com"}
	id, err := store.Actor(t.Context(), who)
	require.NoError(t, err)
	require.NotContains(t, id, "entity-1")
	again, err := store.Actor(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, id, again)
	who.Email = "other@example.com"
	again, err = store.Actor(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, id, again)
	known, err := store.Person(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, &who, known)
	other, err := store.Actor(t.Context(), actor.Actor{ID: "entity-2"})
	require.NoError(t, err)
	require.NotEqual(t, id, other)

	require.NoError(t, store.Erase(t.Context(), id))
	known, err = store.Person(t.Context(), id)
	require.NoError(t, err)
	require.Nil(t, known)
	require.Len(t, disk.Keys("evidence/"), 2, "the other person's")
	anew, err := store.Actor(t.Context(), who)
	require.NoError(t, err)
	require.NotEqual(t, id, anew)
	require.NoError(t, store.Erase(t.Context(), "person-unknown"))
}

func TestReasonHasOneHash(t *testing.T) {
	disk := storagetest.NewDisk()
	var hashes []string
	for range 2 { // a restart between
		store := people.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
		for range 2 {
			hash, err := store.Reason(t.Context(), "an incident")
			require.NoError(t, err)
			require.NotContains(t, hash, "incident")
			hashes = append(hashes, hash)
		}
	}
	require.Len(t, disk.Keys("evidence/reasons/"), 1)
	require.Equal(t, []string{hashes[0], hashes[0], hashes[0], hashes[0]}, hashes)

	store := people.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
	other, err := store.Reason(t.Context(), "another incident")
	require.NoError(t, err)
	require.NotEqual(t, hashes[0], other)
	none, err := store.Reason(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, none)
	long, err := store.Reason(t.Context(), strings.Repeat("é", evidence.MaxReason))
	require.NoError(t, err)
	require.Len(t, long, 64)
}

// Entries that cannot be read for good are written anew.
func TestDamagedPeopleStopNobody(t *testing.T) {
	disk := storagetest.NewDisk()
	s := storagetest.Open(disk, 0, storagetest.None)
	who := actor.Actor{ID: "entity-1", Name: "N"}
	for range 2 {
		_, err := people.NewStore(storage.NewMount(s)).Actor(t.Context(), who)
		require.NoError(t, err)
		_, err = people.NewStore(storage.NewMount(s)).Reason(t.Context(), "an incident")
		require.NoError(t, err)
		s.Fail(func(op, _ string) storagetest.Fault { // as Vault answers the Get of a damaged entry
			if op == "get" {
				return storagetest.Before
			}
			return storagetest.None
		})
	}
	s.Fail(nil)
	id, err := people.NewStore(storage.NewMount(s)).Actor(t.Context(), who)
	require.NoError(t, err)
	known, err := people.NewStore(storage.NewMount(s)).Person(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, &who, known)
}

// Only the random ID of a person leads to one.
func TestOnlyRandomIDsLeadToPeople(t *testing.T) {
	store := people.NewStore(storage.NewMount(storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)))
	for _, id := range []string{"", "system", "person-", "person-../../keys", "person-X"} {
		known, err := store.Person(t.Context(), id)
		require.NoError(t, err)
		require.Nil(t, known)
		require.NoError(t, store.Erase(t.Context(), id))
	}
}
