// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import "context"

// deleteHint deletes a hint that is wanted no more.
func (s *Store) deleteHint(ctx context.Context, h Hint) error {
	if err := s.mount.Delete(ctx, h.key()); err != nil {
		s.agenda.changed(h)
		return err
	}
	s.agenda.gone(h)
	return nil
}

// putHint writes a hint.
func (s *Store) putHint(ctx context.Context, h Hint) error {
	s.floors.lock.RLock()
	defer s.floors.lock.RUnlock()
	if err := s.floors.lower(ctx, s, h); err != nil {
		return err
	}
	return s.mount.Put(ctx, h.key(), []byte{})
}
