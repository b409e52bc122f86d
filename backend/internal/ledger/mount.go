// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A Carrier has entries that carry events of the mount.
type Carrier interface {
	// MayLack reports whether the entries are to be read for events that the log may lack.
	MayLack(now time.Time) bool
	// TellAgain tells the ledger of the events that the entries carry and the log lacks.
	TellAgain(ctx context.Context, now time.Time) error
}

// lookAgainAfter is the time after which entries are read again, for events that were
// decided and not told.
const lookAgainAfter = 24 * time.Hour

// A Watch says when a carrier's entries are to be read: after a start, after a Put that
// failed, and once a day. The zero value says that it is time.
type Watch struct {
	mu sync.Mutex
	at time.Time
}

// Due reports whether it is time.
func (w *Watch) Due(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !now.Before(w.at)
}

// Begin notes that the entries are being read.
func (w *Watch) Begin(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = now.Add(lookAgainAfter)
}

// Again has the entries read again at the next occasion.
func (w *Watch) Again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = time.Time{}
}

// Carry adds an event of the mount to those that an entry carries. Unless the head has an
// ID, that is derived from the head and type, and from what decided it: an event that is
// logged again after a crash is the one that the entry has. It fails with [ErrFull].
func Carry(carried []Event, h evidence.Head, d evidence.Detail, decided ...string) ([]Event, error) {
	if len(carried) >= MaxCarried {
		return nil, ErrFull
	}
	if h.EventID == "" {
		h.EventID = evidence.EventID(append([]string{d.Type(), h.Time.Format(time.RFC3339Nano), h.RequestID}, decided...)...)
	}
	e, err := Encode(h, d)
	if err != nil {
		return nil, err
	}
	return append(slices.Clone(carried), e), nil
}

// Unlogged returns, of the events of the mount that an entry carries, those that the log
// is not known to have. It does not wait for the log.
func (l *Ledger) Unlogged(ctx context.Context, carried []Event) []Event {
	if len(carried) == 0 || l.Size() == 0 {
		return carried
	}
	var left []Event
	for _, e := range carried {
		if lacks, err := l.Lacks(ctx, []Event{e}); lacks || err != nil {
			left = append(left, e)
		}
	}
	return left
}
