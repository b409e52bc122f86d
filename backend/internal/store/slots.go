// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"encoding/binary"
	"fmt"
	"slices"
)

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

// leaf is a page that is to be, and what it is to hold.
type leaf struct {
	place Place
	slots slots
}

// leaves parts the slots between pages below p, or p itself, none of which is too
// large. Together the pages cover what p does.
func (s slots) leaves(p Place) []leaf {
	if !tooLarge(p, s) {
		return []leaf{{p, s}}
	}
	children := s.split(p)
	return append(children[0].leaves(p.child(0)), children[1].leaves(p.child(1))...)
}

// split parts the slots between the two children of p.
func (s slots) split(p Place) (children [2]slots) {
	middle := s.from(p.child(1).first())
	return [2]slots{s[:middle:middle], s[middle:]}
}
