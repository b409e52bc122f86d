// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package people_test

import (
	"bytes"
	"slices"
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

	found, err := store.Erase(t.Context(), id)
	require.NoError(t, err)
	require.True(t, found)
	known, err = store.Person(t.Context(), id)
	require.NoError(t, err)
	require.Nil(t, known)
	require.Len(t, disk.Keys("evidence/people/"), 1, "the other person's")
	anew, err := store.Actor(t.Context(), who)
	require.NoError(t, err)
	require.NotEqual(t, id, anew)
	for _, unknown := range []string{id, "person-unknown", "entity-3"} {
		found, err = store.Erase(t.Context(), unknown)
		require.NoError(t, err)
		require.False(t, found, unknown)
	}
	found, err = store.Erase(t.Context(), "entity-1")
	require.NoError(t, err)
	require.True(t, found, "named by the ID in Vault")
	require.Len(t, disk.Keys("evidence/people/"), 1)
}

// onDisk reports whether a text lies anywhere on a disk.
func onDisk(disk *storagetest.Disk, text string) bool {
	return slices.ContainsFunc(disk.Keys(""), func(key string) bool {
		return strings.Contains(key, text) || bytes.Contains(disk.Value(key), []byte(text))
	})
}

// An actor that a record has by its ID shows what is known of the person, also when that
// changes, and no name any more once the person was erased: in this process, and in one
// that another node tells of the change.
func TestActorsAreNamedByWhatIsKnown(t *testing.T) {
	disk := storagetest.NewDisk()
	open := func() *people.Store {
		return people.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
	}
	store, other := open(), open()
	who := actor.Actor{ID: "sub", Name: "Jo Doe", Email: "jo@example.com"}
	require.Equal(t, who.Bare(), store.Named(t.Context(), who.Bare()), "nothing is known")
	id, err := store.Actor(t.Context(), who)
	require.NoError(t, err)
	told := func() {
		for _, key := range append(disk.Keys("evidence/"), "evidence/people/"+id) {
			other.Invalidate(key)
		}
	}
	told()
	for _, s := range []*people.Store{store, other} {
		require.Equal(t, who, s.Named(t.Context(), who.Bare()))
	}
	bare, err := store.Actor(t.Context(), who.Bare())
	require.NoError(t, err)
	require.Equal(t, id, bare, "by the ID alone it is the same person")
	require.Equal(t, who, store.Named(t.Context(), who.Bare()), "and says nothing about the name")
	who.Name = "Jo Smith"
	_, err = store.Actor(t.Context(), who)
	require.NoError(t, err)
	told()
	for _, s := range []*people.Store{store, other} {
		require.Equal(t, who, s.Named(t.Context(), who.Bare()))
	}

	_, err = store.Erase(t.Context(), id)
	require.NoError(t, err)
	told()
	for _, s := range []*people.Store{store, other, open()} {
		require.Equal(t, who.Bare(), s.Named(t.Context(), who.Bare()))
		require.Equal(t, who.Bare(), s.Named(t.Context(), who), "as an earlier version has stored it")
		require.NoError(t, s.Keep(t.Context(), who))
	}
	require.False(t, onDisk(disk, "Jo"), "what an earlier version has stored does not come back")
	_, err = store.Actor(t.Context(), who.Bare()) // by a record
	require.NoError(t, err)
	require.NoError(t, store.Keep(t.Context(), who))
	require.False(t, onDisk(disk, "Jo"))
	require.Equal(t, actor.System, store.Named(t.Context(), actor.System))
	require.Equal(t, actor.Actor{}, store.Named(t.Context(), actor.Actor{}))
}

// A name that an earlier version has stored shows while the person is being stored, whose
// way comes first, and after a try that stored the way alone.
func TestNameShowsWhileItMoves(t *testing.T) {
	disk := storagetest.NewDisk()
	who := actor.Actor{ID: "sub", Name: "Jo Doe", Email: "jo@example.com"}
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.None} {
		s := storagetest.Open(disk, 0, storagetest.None)
		s.Fail(func(op, key string) storagetest.Fault {
			if op == "put" && strings.HasPrefix(key, "evidence/people/") {
				return fault
			}
			return storagetest.None
		})
		store := people.NewStore(storage.NewMount(s))
		require.Equal(t, fault == storagetest.None, store.Keep(t.Context(), who) == nil)
		require.Equal(t, who, store.Named(t.Context(), who))
	}
	require.True(t, onDisk(disk, "Jo Doe"))
}

// A person is erased whole when the request is repeated, whatever it met: named by the
// random ID or by the ID in Vault, in the same process or in the next. What stores a
// person leaves none that is not erased so.
func TestErasingIsRepeatable(t *testing.T) {
	who := actor.Actor{ID: "sub", Name: "Jo Doe", Email: "jo@example.com"}
	faults := []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.Gone}
	for _, by := range []string{"random ID", "sub"} {
		for _, fault := range faults {
			for n := 1; n <= 9; n++ {
				disk := storagetest.NewDisk()
				s := storagetest.Open(disk, n, fault)
				store := people.NewStore(storage.NewMount(s))
				id, err := store.Actor(t.Context(), who)
				if err == nil {
					_, err = store.Erase(t.Context(), map[bool]string{true: "sub", false: id}[by == "sub"])
				}
				if err != nil {
					if fault == storagetest.Gone {
						store = people.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
					}
					if by != "sub" && id == "" {
						id, err = store.Actor(t.Context(), who)
						require.NoError(t, err)
					}
					_, err = store.Erase(t.Context(), map[bool]string{true: "sub", false: id}[by == "sub"])
					require.NoError(t, err)
				}
				require.False(t, onDisk(disk, "Jo"), "%s, %s at operation %d", by, fault, n)
				require.False(t, onDisk(disk, "jo@"), "%s, %s at operation %d", by, fault, n)
				require.Equal(t, who.Bare(), store.Named(t.Context(), who.Bare()))
			}
		}
	}
}

// A damaged entry of a person is erased, too.
func TestDamagedPersonIsErased(t *testing.T) {
	disk := storagetest.NewDisk()
	store := people.NewStore(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
	id, err := store.Actor(t.Context(), actor.Actor{ID: "sub", Name: "Jo Doe"})
	require.NoError(t, err)
	disk.Set("evidence/people/"+id, []byte(`{"name": "Jo Doe`))
	store.Invalidate("evidence/people/" + id)
	require.Equal(t, actor.Actor{ID: "sub"}, store.Named(t.Context(), actor.Actor{ID: "sub"}))
	found, err := store.Erase(t.Context(), id)
	require.NoError(t, err)
	require.True(t, found)
	require.False(t, onDisk(disk, "Jo"))
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
		require.NotZero(t, disk.Damage(storagetest.ErrAltered, func(key string) bool { return strings.HasPrefix(key, "evidence/") }))
	}
	id, err := people.NewStore(storage.NewMount(s)).Actor(t.Context(), who)
	require.NoError(t, err)
	known, err := people.NewStore(storage.NewMount(s)).Person(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, &who, known)
}

// A Get that fails for a moment gives no person another ID, and takes away no name.
func TestPassingFaultKeepsThePerson(t *testing.T) {
	disk := storagetest.NewDisk()
	s := storagetest.Open(disk, 0, storagetest.None)
	who := actor.Actor{ID: "entity-1", Name: "N", Email: "n@example.com"}
	id, err := people.NewStore(storage.NewMount(s)).Actor(t.Context(), who)
	require.NoError(t, err)
	for _, prefix := range []string{"evidence/person_ids/", "evidence/people/"} {
		s.Fail(func(op, key string) storagetest.Fault {
			if op == "get" && strings.HasPrefix(key, prefix) {
				return storagetest.Before
			}
			return storagetest.None
		})
		store := people.NewStore(storage.NewMount(s))
		_, err = store.Actor(t.Context(), who.Bare())
		require.Error(t, err, prefix)
		s.Fail(nil)
		again, err := store.Actor(t.Context(), who.Bare())
		require.NoError(t, err)
		require.Equal(t, id, again, prefix)
		known, err := store.Person(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, &who, known, prefix)
	}
	require.Len(t, disk.Keys("evidence/people/"), 1)
}

// Only the random ID of a person leads to one.
func TestOnlyRandomIDsLeadToPeople(t *testing.T) {
	store := people.NewStore(storage.NewMount(storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)))
	for _, id := range []string{"", "system", "person-", "person-../../keys", "person-X"} {
		known, err := store.Person(t.Context(), id)
		require.NoError(t, err)
		require.Nil(t, known)
		found, err := store.Erase(t.Context(), id)
		require.NoError(t, err)
		require.False(t, found)
	}
}
