// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestExactlyOneVersionIsActive(t *testing.T) {
	r := NewRing("dek-1", XAES256GCM, day)
	require.Equal(t, 1, r.Active().Number)

	later := day.Add(time.Hour)
	to := r.Add(Version{KeyID: "dek-2", KeyType: AES256GCM, CreatedAt: later})
	require.Equal(t, 2, to)
	require.Equal(t, Pending, r.Find(2).State)
	require.Equal(t, 1, r.Active().Number, "a pending version does not seal")

	r.Activate(2, later)
	require.Equal(t, "dek-2", r.Active().KeyID)
	require.Equal(t, Deactivated, r.Find(1).State)
	require.Equal(t, later, r.Find(1).DeactivatedAt)

	r.Activate(1, later)
	require.Equal(t, 1, r.Active().Number)
	require.True(t, r.Find(1).DeactivatedAt.IsZero())
	require.Equal(t, Deactivated, r.Find(2).State)
}

func TestNumbersAreNotReused(t *testing.T) {
	r := NewRing("dek-1", XAES256GCM, day)
	for want := 2; want < 300; want++ {
		n := r.Add(Version{KeyID: "dek"})
		require.Equal(t, want, n)
		r.Activate(n, day)
		r.Destroy(n-1, day)
	}
	require.Len(t, r.Versions, 1+keepDestroyed, "a ring does not grow for ever")
	require.Equal(t, 299, r.Active().Number)
	require.Nil(t, r.Find(1), "the oldest are forgotten")
	require.NotNil(t, r.Find(298))
}

func TestUsable(t *testing.T) {
	r := NewRing("dek-1", XAES256GCM, day)
	r.Add(Version{KeyID: "dek-2"})
	r.Activate(2, day)
	_, err := r.Usable(1)
	require.NoError(t, err, "a deactivated version opens")
	r.Destroy(1, day)
	_, err = r.Usable(1)
	require.ErrorIs(t, err, ErrVersionDestroyed)
	for _, n := range []int{0, 3, -1} {
		_, err = r.Usable(n)
		require.ErrorIs(t, err, ErrNoVersion)
	}
}

func TestForgottenVersionsAreDestroyed(t *testing.T) {
	r := NewRing("dek-1", XAES256GCM, day)
	for range keepDestroyed + 1 {
		r.Activate(r.Add(Version{KeyID: "dek"}), day)
		r.Destroy(r.Active().Number-1, day)
	}
	require.Nil(t, r.Find(1))
	_, err := r.Usable(1)
	require.ErrorIs(t, err, ErrVersionDestroyed)
	_, err = r.Usable(r.Next)
	require.ErrorIs(t, err, ErrNoVersion)
}

func TestDestroyPageKey(t *testing.T) {
	r := NewRing("dek-1", XAES256GCM, day)
	for range 2 {
		r.Activate(r.Add(Version{KeyID: "dek"}), day)
	}
	r.Find(1).DestroyAfter, r.Find(2).DestroyAfter = day, day
	r.DestroyPageKey(1, true, day)
	require.Equal(t, Deactivated, r.Find(1).State, "its external key is there")
	require.True(t, r.Find(1).PageKeyDestroyed)
	require.True(t, r.Find(1).DestroyAfter.IsZero())
	_, err := r.Usable(1)
	require.NoError(t, err)
	r.DestroyPageKey(2, false, day)
	require.Equal(t, Destroyed, r.Find(2).State)
	require.Panics(t, func() { r.DestroyPageKey(2, true, day) }, "a destroyed version")
	require.Panics(t, func() { r.DestroyPageKey(3, true, day) }, "the active version")
	r.DestroyPageKey(1, false, day)
	require.Equal(t, Destroyed, r.Find(1).State, "its external key has gone since")
}

func TestMistakesPanic(t *testing.T) {
	r := NewRing("dek-1", XAES256GCM, day)
	require.Panics(t, func() { r.Destroy(1, day) }, "the active version")
	require.Panics(t, func() { r.Activate(2, day) }, "an unknown version")
	r.Add(Version{KeyID: "dek-2"})
	r.Activate(2, day)
	r.Destroy(1, day)
	require.Panics(t, func() { r.Activate(1, day) }, "a destroyed version")
}

func TestCloneSharesNothing(t *testing.T) {
	r := NewRing("dek-1", XAES256GCM, day)
	c := r.Clone()
	c.Add(Version{KeyID: "dek-2"})
	c.Activate(2, day)
	require.Len(t, r.Versions, 1)
	require.Equal(t, Active, r.Versions[0].State)
}
