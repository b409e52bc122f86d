// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Carry adds an event of the mount to those that an entry carries. Its ID is derived from
// its head and type, and from what decided it: an event that is logged again after a
// crash is the one that the entry has. It fails with [ErrFull].
func Carry(carried []Event, h evidence.Head, d evidence.Detail, decided ...string) ([]Event, error) {
	if len(carried) >= MaxCarried {
		return nil, ErrFull
	}
	h.EventID = evidence.EventID(append([]string{d.Type(), h.Time.Format(time.RFC3339Nano), h.RequestID}, decided...)...)
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
