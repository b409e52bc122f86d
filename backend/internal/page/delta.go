// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package page

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// deltaHeaderSize is the length of what precedes the sealed slots of a delta: the header
// that the page has with the delta, and the [BaseID] of the page.
const deltaHeaderSize = headerSize + baseIDSize

var errDelta = errors.New("delta is malformed")

// Belongs reports whether a delta is of this Put of its page. It fails if the delta
// is malformed, or the page that it names.
func Belongs(delta, page []byte) (bool, error) {
	h, rest, err := ParseHeader(delta)
	if err != nil || len(rest) < baseIDSize {
		return false, errDelta
	}
	if BaseID(rest[:baseIDSize]) != BaseIDOf(page) {
		return false, nil
	}
	of, _, err := ParseHeader(page)
	if err != nil || of.Version != h.Version {
		return false, errDelta
	}
	return true, nil
}

// deltaAD binds a delta to its tenant, its place, its header and its page.
func deltaAD(o keyring.Owner, p Prefix, header []byte) []byte {
	return keyring.AssociatedData("vault-plugin-dek/delta/v1", o.Tenant, o.Incarnation, string(p), string(header))
}

// SealDelta seals the items that have changed since the Put of the page that base
// identifies; h is the header that the page has with the changes.
func SealDelta(o keyring.Owner, p Prefix, h Header, base BaseID, a keyring.AEAD, changed Slots) ([]byte, error) {
	header := append(h.encode(), base[:]...)
	sealed, err := a.Seal(changed.Encode(), deltaAD(o, p, header))
	if err != nil {
		return nil, fmt.Errorf("sealing the delta of page %s: %w", p, err)
	}
	return append(header, sealed...), nil
}

// AddDelta adds to a page what its delta holds.
func (o *Page) AddDelta(owner keyring.Owner, p Prefix, a keyring.AEAD, delta []byte) error {
	h, _, err := ParseHeader(delta)
	if err != nil {
		return fmt.Errorf("delta of page %s: %w: %w", p, ErrDamaged, err)
	}
	encoded, err := a.Open(delta[deltaHeaderSize:], deltaAD(owner, p, delta[:deltaHeaderSize]))
	if err != nil {
		return fmt.Errorf("delta of page %s: %w", p, ErrDamaged)
	}
	if o.Changed, err = DecodeSlots(encoded); err != nil {
		return fmt.Errorf("delta of page %s: %w", p, err)
	}
	o.Header = h
	o.Slots, err = o.Slots.with(o.Changed)
	return err
}

// with returns the slots after those of changed have been put into them.
func (s Slots) with(changed Slots) (Slots, error) {
	merged := make(Slots, len(s), len(s)+len(changed))
	copy(merged, s)
	for _, sl := range changed {
		var err error
		if merged, err = merged.Set(sl); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

// Set puts a slot in place of the one of the same item, or inserts it if there is none. It
// may change s in place, as append does: use what it returns.
func (s Slots) Set(sl Slot) (Slots, error) {
	name, err := item.NameOf(sl.Item)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	i := s.From(sl.Hash)
	for ; i < len(s) && s[i].Hash == sl.Hash; i++ {
		other, err := item.NameOf(s[i].Item)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if s[i].Kind == sl.Kind && other == name {
			s[i] = sl
			return s, nil
		}
	}
	return slices.Insert(s, i, sl), nil
}
