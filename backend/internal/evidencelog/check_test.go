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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A restored snapshot is noticed by a checkpoint that was kept, also when the log has
// grown again, and when the key was changed after the snapshot.
func TestRestoredSnapshotIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		appendEach(t, p, 5)
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
		require.ErrorIs(t, err, witnesses.ErrWentBack)
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
		require.ErrorIs(t, err, witnesses.ErrForked)
	})
}

// What is no checkpoint of this log is not taken for one that the log has lost.
func TestCheckOfWhatIsNoCheckpointOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
		fill(t, p, 5)
		kept, err := p.Checkpoint(t.Context(), 0)
		require.NoError(t, err)
		const otherMount = "11111111-1111-4111-8111-111111111111"
		mount, _, err := evidence.ParseOrigin(string(bytes.SplitN(kept, []byte("\n"), 2)[0]))
		require.NoError(t, err)
		for what, c := range map[string]struct {
			old, new string
			want     error
			missing  int64
		}{
			"as it was signed":           {"\n6\n", "\n6\n", nil, 0},
			"a text":                     {string(kept), "x", evidence.ErrCheckpoint, 0},
			"nothing":                    {string(kept), "", evidence.ErrCheckpoint, 0},
			"shorter than it was signed": {"\n6\n", "\n5\n", evidence.ErrForged, 0},
			"longer than it was signed":  {"\n6\n", "\n9\n", evidence.ErrForged, 0},
			"of another mount":           {mount, otherMount, witnesses.ErrOtherLog, 0},
			"of a later log":             {"/1\n", "/2\n", witnesses.ErrLogGone, 6},
		} {
			changed := strings.Replace(string(kept), c.old, c.new, 1)
			missing, err := p.Check(t.Context(), []byte(changed))
			require.ErrorIs(t, err, c.want, what)
			require.Equal(t, c.missing, missing, what)
		}
	})
}

func TestPresentCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		p := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
		<-time.After(time.Hour) // of the bubble's clock
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
