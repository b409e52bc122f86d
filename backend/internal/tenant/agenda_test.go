// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// appointed is a tenant of a store and its hint in the schedule.
func appointed(t *testing.T) (*Store, *storagetest.Storage, *Record, Hint) {
	t.Helper()
	entries := storagetest.Open(storagetest.NewDisk(), 0, storagetest.None)
	s := NewStore(storage.NewMount(entries))
	tenant := tenantOf(uuid.NewString())
	require.NoError(t, s.put(context.Background(), nil, tenant))
	hints := tenant.Hints()
	require.Len(t, hints, 1)
	return s, entries, tenant, hints[0]
}

func (s *Store) dueUnder(t *testing.T, h Hint, now time.Time) []Appointment {
	t.Helper()
	due, err := s.Appointments(context.Background(), h.Index, h.Day, shard(h.TenantID), now)
	require.NoError(t, err)
	return due
}

func TestAppointments(t *testing.T) {
	s, entries, tenant, h := appointed(t)
	now := time.Now()
	due := s.dueUnder(t, h, now)
	require.Len(t, due, 1)
	require.Equal(t, h, due[0].Hint)
	require.Len(t, s.dueUnder(t, h, now), 1, "until it is put off")
	s.LookAgain(due[0], now.Add(time.Hour))
	ops := entries.Ops()
	require.Empty(t, s.dueUnder(t, h, now.Add(time.Minute)))
	require.Equal(t, ops, entries.Ops(), "nothing is read for that")
	require.Len(t, s.dueUnder(t, h, now.Add(time.Hour)), 1)

	// Whatever changes the record brings it back.
	s.LookAgain(due[0], now.Add(time.Hour))
	next := tenant.Clone()
	next.DisplayName = "other"
	require.NoError(t, s.put(context.Background(), tenant, next))
	due = s.dueUnder(t, h, now)
	require.Len(t, due, 1)

	// Who has looked before a change does not put it off after it.
	require.NoError(t, s.put(context.Background(), next, next.Clone()))
	s.LookAgain(due[0], now.Add(time.Hour))
	require.Len(t, s.dueUnder(t, h, now), 1)

	// A failed write of the record may have taken effect.
	s.LookAgain(s.dueUnder(t, h, now)[0], now.Add(time.Hour))
	entries.FailNext(1, storagetest.AfterStale)
	require.Error(t, s.put(context.Background(), next, next.Clone()))
	require.Len(t, s.dueUnder(t, h, now), 1)

	// A part is listed again after a day, and after the clock went back.
	s.LookAgain(s.dueUnder(t, h, now)[0], now.Add(1000*time.Hour))
	require.Empty(t, s.dueUnder(t, h, now.Add(23*time.Hour)))
	require.Len(t, s.dueUnder(t, h, now.Add(25*time.Hour)), 1)
	s.LookAgain(s.dueUnder(t, h, now.Add(25*time.Hour))[0], now.Add(1000*time.Hour))
	require.Len(t, s.dueUnder(t, h, now), 1)

	paused := next.Clone()
	paused.RotationPaused = true
	require.NoError(t, s.put(context.Background(), next, paused))
	require.Empty(t, s.dueUnder(t, h, now))
}

// What changes while a part is being listed is looked at, whether or not the List
// shows it.
func TestAppointmentMadeDuringAList(t *testing.T) {
	s, entries, tenant, h := appointed(t)
	now := time.Now()
	entries.Hook(func(op, _ string) {
		if op == "list" {
			entries.Hook(nil)
			next := tenant.Clone()
			next.RotationPaused = true
			require.NoError(t, s.put(context.Background(), tenant, next))
			require.NoError(t, s.put(context.Background(), next, tenant))
		}
	})
	require.Len(t, s.dueUnder(t, h, now), 1)
	require.Equal(t, 1, s.agenda.size)
	s.ForgetAppointments()
	require.Len(t, s.dueUnder(t, h, now), 1)
}

// What is cleared while it is listed is looked at all the same, and not put off:
// what changed meanwhile was forgotten, too.
func TestAgendaClearedDuringAList(t *testing.T) {
	s, entries, _, h := appointed(t)
	now := time.Now()
	entries.Hook(func(op, _ string) {
		if op == "list" {
			entries.Hook(nil)
			s.ForgetAppointments()
		}
	})
	due := s.dueUnder(t, h, now)
	require.Len(t, due, 1)
	require.Equal(t, h, due[0].Hint)
	require.Len(t, s.dueUnder(t, h, now), 1)
	s.LookAgain(due[0], now.Add(time.Hour))
	require.Len(t, s.dueUnder(t, h, now), 1)
}
