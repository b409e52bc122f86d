// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

const (
	// pageBytes is the size above which a page of several items splits. A write
	// to storage costs nearly the same for 400 bytes as for 16 KiB, and twice as
	// much for 32 KiB: see docs/benchmarks.md.
	pageBytes = 32 << 10
	// maxPageBytes bounds what is ever written to one page, on the way of a split
	// too: with its overhead an entry stays below Consul's limit of 512 KiB.
	maxPageBytes = 480 << 10
	// slotOverhead is what a slot's entry in the table adds to its item.
	slotOverhead = slotEntrySize
)

// pageFormat is the first byte of a page.
const pageFormat = 1

// headerSize is the length of the clear header: format, key version, and the
// number of items of each kind, the numbers as four bytes each, most
// significant first. The sealed slots follow. The whole header is part of the
// associated data, so a page that opens had the header it was sealed with.
const headerSize = 1 + 4 + 4*len(kinds)

// Header is what a page says of itself without being opened.
type Header struct {
	Version int
	Counts  Counts
}

// ErrPageDamaged reports a page that does not open.
var ErrPageDamaged = errors.New("page does not open")

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

// parseHeader returns the header of a page and the sealed rest.
func parseHeader(page []byte) (h Header, sealed []byte, err error) {
	if len(page) < headerSize || page[0] != pageFormat {
		return Header{}, nil, errHeader
	}
	h.Version = int(binary.BigEndian.Uint32(page[1:]))
	for i := range h.Counts {
		h.Counts[i] = binary.BigEndian.Uint32(page[5+4*i:])
	}
	return h, page[headerSize:], nil
}

// mark tells each Put of a page from all others: it is the tag of its seal, which
// ends it. Nonces are random, so no two are the same.
type mark [markSize]byte

const markSize = 16

// markOf returns the mark of a page; the zero mark of what is too short for a page.
func markOf(page []byte) (m mark) {
	if len(page) >= headerSize+markSize {
		copy(m[:], page[len(page)-markSize:])
	}
	return m
}

// pageAD binds a page to its tenant, its place and its header.
func pageAD(o keyring.Owner, p Place, header []byte) []byte {
	return keyring.AssociatedData("vault-plugin-dek/page/v1", o.Tenant, o.Incarnation, string(p), string(header))
}

// sealPage seals encoded slots.
func sealPage(o keyring.Owner, p Place, h Header, a keyring.AEAD, slots []byte) ([]byte, error) {
	header := h.encode()
	sealed, err := a.Seal(slots, pageAD(o, p, header))
	if err != nil {
		return nil, fmt.Errorf("sealing page %s: %w", p, err)
	}
	return append(header, sealed...), nil
}

// openPage returns the encoded slots of a page. It fails with [ErrPageDamaged].
func openPage(o keyring.Owner, p Place, a keyring.AEAD, page []byte) ([]byte, error) {
	_, sealed, err := parseHeader(page)
	if err != nil {
		return nil, fmt.Errorf("page %s: %w: %w", p, ErrPageDamaged, err)
	}
	slots, err := a.Open(sealed, pageAD(o, p, page[:headerSize]))
	if err != nil {
		return nil, fmt.Errorf("page %s: %w", p, ErrPageDamaged)
	}
	return slots, nil
}
