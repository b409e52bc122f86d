// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

// floors are the days before which an index has no hints, so that a tick need
// not look for them.
type floors struct {
	// lock is held shared from looking at a floor until the hint is written, and
	// exclusively from finding a day empty until the floor is raised.
	lock sync.RWMutex

	mu sync.Mutex
	// known is what is stored. It is nil before the first use, and after a write
	// of it that failed: then it is written again before it is believed, since
	// the failed write may have taken effect behind a stale cache.
	known map[Index]string
}

// read loads the floors. f.mu is held.
func (f *floors) read(ctx context.Context, s *Store) error {
	if f.known != nil {
		return nil
	}
	stored := map[Index]string{}
	found, err := s.mount.GetJSON(ctx, floorsKey, &stored)
	if err != nil {
		return err
	}
	for i, day := range stored {
		if _, err := time.Parse(dayFormat, day); err != nil {
			return fmt.Errorf("%s: the floor of %s is no day", floorsKey, i) // whoever goes on from it would not get on
		}
	}
	if found {
		if err := s.mount.PutJSON(ctx, floorsKey, stored); err != nil {
			return err
		}
	}
	f.known = stored
	return nil
}

func (f *floors) write(ctx context.Context, s *Store, i Index, day string) error {
	next := maps.Clone(f.known)
	next[i] = day
	if err := s.mount.PutJSON(ctx, floorsKey, next); err != nil {
		f.known = nil
		return err
	}
	f.known = next
	return nil
}

// drop lets the floors be read again.
func (f *floors) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = nil
}

// lower makes sure that the floor is not above a hint that is to be written.
func (f *floors) lower(ctx context.Context, s *Store, h Hint) error {
	if h.Day == AnyDay {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.read(ctx, s); err != nil {
		return err
	}
	if floor := f.known[h.Index]; floor != "" && floor <= h.Day {
		return nil
	}
	return f.write(ctx, s, h.Index, h.Day)
}

// Floor returns the first day on which an index may have hints, empty if it has
// none at all.
func (s *Store) Floor(ctx context.Context, i Index) (string, error) {
	s.floors.mu.Lock()
	defer s.floors.mu.Unlock()
	if err := s.floors.read(ctx, s); err != nil {
		return "", err
	}
	return s.floors.known[i], nil
}

// RaiseFloor raises the floor to the day after an empty one, if that is where
// the floor is and the day is empty still.
func (s *Store) RaiseFloor(ctx context.Context, i Index, empty string) error {
	s.floors.lock.Lock()
	defer s.floors.lock.Unlock()
	s.floors.mu.Lock()
	defer s.floors.mu.Unlock()
	if err := s.floors.read(ctx, s); err != nil {
		return err
	}
	if s.floors.known[i] != empty {
		return nil
	}
	shards, err := s.HintShards(ctx, i, empty)
	if err != nil {
		return err
	}
	if len(shards) > 0 {
		return nil
	}
	return s.floors.write(ctx, s, i, NextDay(empty))
}
