// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import "time"

// Leases describes the KEKs of one provider that are open.
type Leases struct {
	Open int
	Ends time.Time // when the first of them is to be opened anew
}

// Leases returns the leases of the providers that have any, by their names.
func (s *Store) Leases() map[string]Leases {
	all := map[string]Leases{}
	for key := range s.gates.All() {
		o, cached, _ := s.keks.Get(key)
		if !cached || o.provider == "" || o.term.Over() {
			continue
		}
		until := o.term.End()
		if until.IsZero() {
			continue // it was ended meanwhile
		}
		l := all[o.provider]
		if l.Open++; l.Open == 1 || until.Before(l.Ends) {
			l.Ends = until
		}
		all[o.provider] = l
	}
	return all
}

// Waiting returns how many requests wait for a provider to open a KEK.
func (s *Store) Waiting() int {
	n := 0
	for _, g := range s.gates.All() {
		g.mu.Lock()
		if g.call != nil {
			n += g.call.waiting
		}
		g.mu.Unlock()
	}
	return n
}
