// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// damagedMount has a good entry and a bad one, whose reads fail with err.
func damagedMount(t *testing.T, err error) (*Mount, *storagetest.Disk, *storagetest.Storage) {
	t.Helper()
	disk := storagetest.NewDisk()
	disk.Set("pages/good", []byte("{}"))
	disk.Set("pages/bad", []byte("{}"))
	if err != nil {
		require.Equal(t, 1, disk.Damage(err, storagetest.Below("pages/bad")))
	}
	s := storagetest.Open(disk, 0, storagetest.None)
	return NewMount(s), disk, s
}

func TestTextsOfTheBarrierArePermanent(t *testing.T) {
	for _, text := range []error{
		storagetest.ErrAltered, storagetest.ErrTerm,
		errors.New("decryption failed: version bytes mis-match"),
		fmt.Errorf("rpc error: code = Unknown desc = %w", storagetest.ErrAltered),
	} {
		t.Run(text.Error(), func(t *testing.T) {
			m, disk, _ := damagedMount(t, text)
			_, err := m.Get(t.Context(), "pages/bad")
			require.ErrorIs(t, err, ErrDamaged)
			var damaged *DamagedError
			require.ErrorAs(t, err, &damaged)
			require.Equal(t, "pages", damaged.Kind)
			require.Equal(t, map[string]int{"pages": 1}, m.Damaged())

			disk.Heal()
			_, err = m.Get(t.Context(), "pages/bad")
			require.NoError(t, err)
			require.Empty(t, m.Damaged())
		})
	}
}

func TestEntryThatGoesOnFailingIsDamaged(t *testing.T) {
	tests := map[string]struct {
		failures int           // of the bad entry
		apart    time.Duration // between them
		others   bool          // whether other entries are read in between
		damaged  bool
	}{
		"often, long, while others are read":  {6, time.Minute, true, true},
		"often and long, and nothing is read": {60, time.Minute, false, false},
		"seldom":                              {3, time.Hour, true, false},
		"a burst":                             {100, time.Millisecond, true, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, s := damagedMount(t, nil)
				s.Fail(func(op, key string) storagetest.Fault {
					if key == "pages/bad" || !test.others {
						return storagetest.Before
					}
					return storagetest.None
				})
				var err error
				for range test.failures {
					_, err = m.Get(t.Context(), "pages/bad")
					require.Error(t, err)
					_, _ = m.Get(t.Context(), "pages/good")
					<-time.After(test.apart)
				}
				require.Equal(t, test.damaged, IsDamaged(err))
				s.Fail(nil)
				_, err = m.Get(t.Context(), "pages/bad")
				require.NoError(t, err, "it heals by itself")
			})
		})
	}
}

func TestListThatGoesOnFailingIsDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, disk, _ := damagedMount(t, nil)
		disk.DamageList(storagetest.ErrUnread, "pages/")
		var err error
		for range 6 {
			_, err = m.List(t.Context(), "pages/")
			require.Error(t, err)
			_, _ = m.Get(t.Context(), "pages/good")
			<-time.After(time.Minute)
		}
		require.ErrorIs(t, err, ErrDamaged)
		_, err = m.Get(t.Context(), "pages/good")
		require.NoError(t, err)
	})
}

func TestRequestThatEndsDamagesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, _ := damagedMount(t, nil)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 {
			_, err := m.Get(ended, "pages/bad")
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, ErrDamaged)
			_, _ = m.Get(t.Context(), "pages/good")
			<-time.After(time.Minute)
		}
	})
}

func TestWriteMendsAnEntry(t *testing.T) {
	for name, mend := range map[string]func(*Mount) error{
		"put":    func(m *Mount) error { return m.Put(t.Context(), "pages/bad", []byte("{}")) },
		"delete": func(m *Mount) error { return m.Delete(t.Context(), "pages/bad") },
	} {
		t.Run(name, func(t *testing.T) {
			m, _, _ := damagedMount(t, storagetest.ErrAltered)
			_, err := m.Get(t.Context(), "pages/bad")
			require.ErrorIs(t, err, ErrDamaged)
			require.NoError(t, mend(m))
			require.Empty(t, m.Damaged())
			_, err = m.Get(t.Context(), "pages/bad")
			require.NoError(t, err)
		})
	}
}

// What does not decode is damaged, is told once, and its error does not quote it.
func TestMalformedEntryIsDamaged(t *testing.T) {
	m, disk, _ := damagedMount(t, nil)
	disk.Set("config", []byte(`{"secret":x`))
	told := 0
	m.OnDamage(func(key string, err error) {
		require.Equal(t, "config", key)
		told++
	})
	for range 3 {
		var v any
		_, err := m.GetJSON(t.Context(), "config", &v)
		require.ErrorIs(t, err, ErrDamaged)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "'x'")
	}
	require.Equal(t, 1, told)
}

// Who is told of damage takes locks under which others read the mount: a read that found
// damage at the same moment would wait for them for ever.
func TestDamageIsToldWithoutALock(t *testing.T) {
	m, disk, _ := damagedMount(t, storagetest.ErrAltered)
	disk.Set("pages/malformed", []byte("{"))
	var told []string
	m.OnDamage(func(key string, _ error) {
		require.True(t, m.damage.mu.TryLock(), "the mount holds its lock")
		m.damage.mu.Unlock()
		told = append(told, key)
	})
	for range 2 {
		_, err := m.Get(t.Context(), "pages/bad")
		require.ErrorIs(t, err, ErrDamaged)
		_, err = m.GetJSON(t.Context(), "pages/malformed", &struct{}{})
		require.ErrorIs(t, err, ErrDamaged)
	}
	require.Equal(t, []string{"pages/bad", "pages/malformed"}, told)
}
