// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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

// pageAD binds a page to its tenant, its place and its header.
func pageAD(t *Tenant, p Place, header []byte) []byte {
	return keyring.AssociatedData("vault-plugin-dek/page/v1", t.ID, t.Incarnation, string(p), string(header))
}

// sealPage seals encoded slots.
func sealPage(t *Tenant, p Place, h Header, a keyring.AEAD, slots []byte) ([]byte, error) {
	header := h.encode()
	sealed, err := a.Seal(slots, pageAD(t, p, header))
	if err != nil {
		return nil, fmt.Errorf("sealing page %s: %w", p, err)
	}
	return append(header, sealed...), nil
}

// openPage returns the encoded slots of a page. It fails with [ErrPageDamaged].
func openPage(t *Tenant, p Place, a keyring.AEAD, page []byte) ([]byte, error) {
	_, sealed, err := parseHeader(page)
	if err != nil {
		return nil, fmt.Errorf("page %s: %w: %w", p, ErrPageDamaged, err)
	}
	slots, err := a.Open(sealed, pageAD(t, p, page[:headerSize]))
	if err != nil {
		return nil, fmt.Errorf("page %s: %w", p, ErrPageDamaged)
	}
	return slots, nil
}

// slot holds one item. Its item stays encoded until it is wanted.
type slot struct {
	Hash Hash
	Kind Kind
	Item []byte
}

func (s slot) size() int { return len(s.Item) + slotOverhead }

// slots are the items of a page, in the order of their hashes. Encoded they are
// a table and, behind it, the items: the number of slots as four bytes, for each
// its hash as eight, its kind as one and its item's length as four, the numbers
// most significant byte first. So one item is found without touching the others;
// a general encoding took longer to decode a page than its cipher.
type slots []slot

const slotCountSize, slotEntrySize = 4, 8 + 1 + 4

// decodeSlots returns slots that share the memory of b. It fails with
// [ErrPageDamaged].
func decodeSlots(b []byte) (slots, error) {
	malformed := func(what string) (slots, error) {
		return nil, fmt.Errorf("%w: its table of items has %s", ErrPageDamaged, what)
	}
	if len(b) < slotCountSize {
		return malformed("no length")
	}
	n := int(binary.BigEndian.Uint32(b))
	table := b[slotCountSize:]
	if n > len(table)/slotEntrySize {
		return malformed("more entries than fit")
	}
	items := table[n*slotEntrySize:]
	s := make(slots, n)
	for i := range s {
		e := table[i*slotEntrySize:]
		hash, kind, size := Hash(binary.BigEndian.Uint64(e)), Kind(e[8]), int(binary.BigEndian.Uint32(e[9:]))
		switch {
		case int(kind) >= len(kinds):
			return malformed("an unknown kind")
		case i > 0 && hash < s[i-1].Hash:
			return malformed("another order than that of the hashes")
		case size > len(items):
			return malformed("an item that is cut off")
		}
		s[i] = slot{hash, kind, items[:size:size]}
		items = items[size:]
	}
	if len(items) > 0 {
		return malformed("bytes behind the last item")
	}
	return s, nil
}

func (s slots) encode() []byte {
	b := make([]byte, 0, slotCountSize+s.size())
	b = binary.BigEndian.AppendUint32(b, uint32(len(s))) // #nosec G115 -- a page has less than a million bytes
	for i := range s {
		b = binary.BigEndian.AppendUint64(b, uint64(s[i].Hash))
		b = append(b, byte(s[i].Kind))
		b = binary.BigEndian.AppendUint32(b, uint32(len(s[i].Item))) // #nosec G115 -- as above
	}
	for i := range s {
		b = append(b, s[i].Item...)
	}
	return b
}

func (s slots) size() int {
	n := 0
	for i := range s {
		n += s[i].size()
	}
	return n
}

func (s slots) counts() (c Counts) {
	for i := range s {
		c[s[i].Kind]++
	}
	return c
}

// from returns the index of the first slot whose hash is h or greater.
func (s slots) from(h Hash) int {
	i, _ := slices.BinarySearchFunc(s, h, func(sl slot, h Hash) int {
		switch {
		case sl.Hash < h:
			return -1
		case sl.Hash > h:
			return 1
		}
		return 0
	})
	return i
}

// find returns the index at which the item is, or at which it belongs. Items
// whose hashes are the same are told apart by kind and name.
func (s slots) find(h Hash, k Kind, name string) (i int, it *Item, err error) {
	for i = s.from(h); i < len(s) && s[i].Hash == h; i++ {
		if s[i].Kind != k {
			continue
		}
		it, err := decodeItem(s[i].Item)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %w", ErrPageDamaged, err)
		}
		if it.Name == name {
			return i, it, nil
		}
	}
	return i, nil, nil
}

// split parts the slots between the two children of p.
func (s slots) split(p Place) (children [2]slots) {
	for i := range s {
		c := p.side(s[i].Hash)
		children[c] = append(children[c], s[i])
	}
	return children
}
