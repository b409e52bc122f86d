// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A restored snapshot is noticed by a checkpoint that was kept, also when the log has
// grown again, and when the key was changed after the snapshot.
func TestRestoredSnapshotIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		for seq := range 5 {
			_, err := p.Append(t.Context(), pending(event(1, seq+1), true))
			require.NoError(t, err)
		}
		snapshot := disk.Clone()
		before, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		_, err = p.RotateKey(t.Context(), rotationHead())
		require.NoError(t, err)
		_, err = p.Append(t.Context(), pending(event(1, 6), true))
		require.NoError(t, err)
		after, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		for _, kept := range [][]byte{before, after} {
			more, err := p.Check(t.Context(), kept)
			require.NoError(t, err)
			require.Zero(t, more)
		}
		p.end()

		p = start(t, storagetest.Open(snapshot, 0, storagetest.None), nil)
		_, err = p.Check(t.Context(), before)
		require.NoError(t, err)
		more, err := p.Check(t.Context(), after)
		require.ErrorIs(t, err, evidencelog.ErrWentBack)
		require.EqualValues(t, 2, more)
		for seq := 6; seq < 8; seq++ {
			other := event(2, seq)
			_, err = p.Append(t.Context(), pending(other, true))
			require.NoError(t, err)
		}
		fork, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		p.end()
		p = start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		_, err = p.Check(t.Context(), fork)
		require.ErrorIs(t, err, evidencelog.ErrForked)
		for _, text := range []string{"", "x", strings.Replace(string(before), "/1\n", "/2\n", 1)} {
			_, err = p.Check(t.Context(), []byte(text))
			require.ErrorIs(t, err, evidence.ErrCheckpoint)
		}
		_, err = p.Check(t.Context(), bytes.Replace(before, []byte("\n6\n"), []byte("\n5\n"), 1))
		require.ErrorIs(t, err, evidence.ErrSignature)
	})
}

func TestPresentCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		time.Sleep(time.Hour) // of the bubble's clock
		_, err := p.Append(t.Context(), pending(event(1, 1), true))
		require.NoError(t, err)
		present, err := p.Present(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, present.Size)
		require.True(t, present.SignedAt.Equal(time.Now()))
		p.end()
		p = start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		again, err := p.Present(t.Context())
		require.NoError(t, err)
		require.Equal(t, present.Note, again.Note)
		require.Equal(t, event(1, 1).Time, again.SignedAt)
	})
}

func TestPeopleAreErasable(t *testing.T) {
	disk := storagetest.NewDisk()
	people := evidencelog.NewPeople(storage.NewMount(storagetest.Open(disk, 0, storagetest.None)))
	who := evidencelog.Person{ID: "entity-1", Name: "N", Email: "n@example.com"}
	actor, err := people.Actor(t.Context(), who)
	require.NoError(t, err)
	require.NotContains(t, actor, "entity-1")
	again, err := people.Actor(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, actor, again)
	who.Email = "other@example.com"
	again, err = people.Actor(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, actor, again)
	known, err := people.Person(t.Context(), actor)
	require.NoError(t, err)
	require.Equal(t, &who, known)
	other, err := people.Actor(t.Context(), evidencelog.Person{ID: "entity-2"})
	require.NoError(t, err)
	require.NotEqual(t, actor, other)

	require.NoError(t, people.Erase(t.Context(), actor))
	known, err = people.Person(t.Context(), actor)
	require.NoError(t, err)
	require.Nil(t, known)
	require.Len(t, disk.Keys("evidence/"), 2, "the other person's")
	anew, err := people.Actor(t.Context(), who)
	require.NoError(t, err)
	require.NotEqual(t, actor, anew)
	require.NoError(t, people.Erase(t.Context(), "person-unknown"))
}

func TestReasonHasOneHash(t *testing.T) {
	people := evidencelog.NewPeople(storage.NewMount(storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)))
	first, err := people.KeepReason(t.Context(), "ev-1", "an incident")
	require.NoError(t, err)
	again, err := people.KeepReason(t.Context(), "ev-1", "an incident")
	require.NoError(t, err)
	require.Equal(t, first, again)
	other, err := people.KeepReason(t.Context(), "ev-2", "an incident")
	require.NoError(t, err)
	require.NotEqual(t, first, other)
	none, err := people.KeepReason(t.Context(), "ev-3", "")
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = people.KeepReason(t.Context(), "ev-4", strings.Repeat("x", evidence.MaxReason+1))
	require.ErrorIs(t, err, evidence.ErrReasonTooLong)
}
