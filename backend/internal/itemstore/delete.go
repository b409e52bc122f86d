// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import "context"

// DeleteAll deletes the pages of an incarnation, and forgets what is in memory of
// them.
func (s *Store) DeleteAll(ctx context.Context, incarnation string) error {
	if err := s.mount.DeleteBelow(ctx, pagesOf(incarnation)); err != nil {
		return err
	}
	s.tables.forget(incarnation)
	return nil
}
