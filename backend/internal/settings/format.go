// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import "errors"

// Format is the number of the formats in which this version stores entries. A later
// version whose entries this one would misread has a greater number, and stores it in the
// configuration before it stores anything else. An entry without a number is of format 1.
const Format = 1

// ErrNewer reports that the mount's storage has a format that this version does not know.
var ErrNewer = errors.New("a newer version of the plugin has written this mount's storage, in a format that this version does not know: " +
	"run that version again, or a later one")

// Newer reports whether the configuration, when it was read last, was of a format that
// this version does not know. Nothing may be read or written then.
func (s *Store) Newer() bool { return s.newer.Load() }

// checkFormat fails with [ErrNewer].
func (s *Store) checkFormat(c Config) error {
	s.newer.Store(c.Format > Format)
	if c.Format > Format {
		return ErrNewer
	}
	return nil
}
