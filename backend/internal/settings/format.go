// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"context"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// Format is the number of the formats in which this version stores entries, all together.
// A version whose entries this one would misread has a greater number, and puts it into
// the entry before it stores anything else. A mount without the entry has format 1.
const Format = 1

const formatKey = "format"

type format struct {
	Format int `json:"format"`
}

// CheckFormat fails with [storage.ErrNewer] if the mount's storage has a format that this
// version does not know. The entry is read once: callers that come meanwhile wait for
// that, as long as their context lasts. An entry that is damaged was put by a newer
// version, too, since this one puts none.
func (s *Store) CheckFormat(ctx context.Context) error {
	if f, _ := s.format.Get(); f != nil {
		return f.check()
	}
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f, generation := s.format.Get()
	if f != nil {
		return f.check()
	}
	read := format{Format: 1}
	if _, err := s.mount.GetJSON(ctx, formatKey, &read); storage.IsDamaged(err) {
		read = format{}
	} else if err != nil {
		return err
	}
	s.format.Keep(&read, generation)
	return read.check()
}

func (f format) check() error {
	if f.Format < 1 || f.Format > Format {
		return storage.ErrNewer
	}
	return nil
}
