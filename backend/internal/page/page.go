// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package page

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

const (
	// SplitBytes is the size above which a page of several items splits. A write
	// to storage costs nearly the same for 400 bytes as for 16 KiB, and twice as
	// much for 32 KiB: see docs/benchmarks.md.
	SplitBytes = 32 << 10
	// MaxBytes bounds what is ever written to one page, on the way of a split
	// too: with its overhead an entry stays below Consul's limit of 512 KiB.
	MaxBytes = 480 << 10
	// slotOverhead is the size that a slot's entry in the table adds to its item.
	slotOverhead = slotEntrySize
)

// pageFormat is the first byte of a page.
const pageFormat = 1

// headerSize is the length of the clear header: format, key version, and the
// number of items of each kind, the numbers as four bytes each, most
// significant first. The sealed slots follow. The whole header is part of the
// associated data, so a page that opens had the header it was sealed with.
const headerSize = 1 + 4 + 4*len(item.Kinds)

// Header is the part of a page that can be read without opening it.
type Header struct {
	Version int
	Counts  item.Counts
}

// ErrDamaged reports a page that does not open.
var ErrDamaged = errors.New("page does not open")

var errHeader = errors.New("page header is malformed")

func (h Header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, pageFormat)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Version)) // #nosec G115 -- a version a minute for 8,000 years
	for _, n := range h.Counts {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// ParseHeader returns the header of a page and the sealed rest.
func ParseHeader(page []byte) (h Header, sealed []byte, err error) {
	if len(page) < headerSize || page[0] != pageFormat {
		return Header{}, nil, errHeader
	}
	h.Version = int(binary.BigEndian.Uint32(page[1:]))
	for i := range h.Counts {
		h.Counts[i] = binary.BigEndian.Uint32(page[5+4*i:])
	}
	return h, page[headerSize:], nil
}

// BaseID distinguishes each Put of a page from all others: it is the tag of the page's
// seal, its last bytes. Nonces are random, so no two are the same.
type BaseID [baseIDSize]byte

const baseIDSize = 16

// BaseIDOf returns the ID of a page's Put; zero if the text is too short for a page.
func BaseIDOf(page []byte) (id BaseID) {
	if len(page) >= headerSize+baseIDSize {
		copy(id[:], page[len(page)-baseIDSize:])
	}
	return id
}

// associatedData binds a page to its tenant, its place and its header.
func associatedData(o keyring.Owner, p Prefix, header []byte) []byte {
	return keyring.AssociatedData("vault-plugin-dek/page/v1", o.Tenant, o.Incarnation, string(p), string(header))
}

// Seal seals encoded slots.
func Seal(o keyring.Owner, p Prefix, h Header, a keyring.AEAD, slots []byte) ([]byte, error) {
	header := h.encode()
	sealed, err := a.Seal(slots, associatedData(o, p, header))
	if err != nil {
		return nil, fmt.Errorf("sealing page %s: %w", p, err)
	}
	return append(header, sealed...), nil
}

// Open returns the encoded slots of a page. It fails with [ErrDamaged].
func Open(o keyring.Owner, p Prefix, a keyring.AEAD, page []byte) ([]byte, error) {
	_, sealed, err := ParseHeader(page)
	if err != nil {
		return nil, fmt.Errorf("page %s: %w: %w", p, ErrDamaged, err)
	}
	slots, err := a.Open(sealed, associatedData(o, p, page[:headerSize]))
	if err != nil {
		return nil, fmt.Errorf("page %s: %w", p, ErrDamaged)
	}
	return slots, nil
}

// Page is a page as it was found and opened, with its delta.
type Page struct {
	Header
	Slots   Slots // those of the delta included
	BaseID  BaseID
	Changed Slots // those of the delta alone
}
