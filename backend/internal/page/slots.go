// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package page

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
)

// Slot holds one item. Its item stays encoded until it is wanted.
type Slot struct {
	Hash Hash
	Kind item.Kind
	Item []byte
}

// Size is how many bytes the slot takes on a page.
func (s Slot) Size() int { return len(s.Item) + slotOverhead }

// Slots are the items of a page, in the order of their hashes. Encoded they are
// a table and, behind it, the items: the number of slots as four bytes, for each
// its hash as eight, its kind as one and its item's length as four, the numbers
// most significant byte first. So one item is found without touching the others;
// a general encoding took longer to decode a page than its cipher.
type Slots []Slot

const slotCountSize, slotEntrySize = 4, 8 + 1 + 4

// DecodeSlots returns slots that share the memory of b. It fails with
// [ErrDamaged].
func DecodeSlots(b []byte) (Slots, error) {
	malformed := func(what string) (Slots, error) {
		return nil, fmt.Errorf("%w: its table of items has %s", ErrDamaged, what)
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
	s := make(Slots, n)
	for i := range s {
		e := table[i*slotEntrySize:]
		hash, kind, size := Hash(binary.BigEndian.Uint64(e)), item.Kind(e[8]), int(binary.BigEndian.Uint32(e[9:]))
		switch {
		case int(kind) >= len(item.Kinds):
			return malformed("an unknown kind")
		case i > 0 && hash < s[i-1].Hash:
			return malformed("another order than that of the hashes")
		case size > len(items):
			return malformed("an item that is cut off")
		}
		s[i] = Slot{hash, kind, items[:size:size]}
		items = items[size:]
	}
	if len(items) > 0 {
		return malformed("bytes behind the last item")
	}
	return s, nil
}

// Encode is the reverse of [DecodeSlots].
func (s Slots) Encode() []byte {
	b := make([]byte, 0, slotCountSize+s.Size())
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

// Size is how many bytes the slots take on a page.
func (s Slots) Size() int {
	n := 0
	for i := range s {
		n += s[i].Size()
	}
	return n
}

// Counts returns how many items there are of each kind.
func (s Slots) Counts() (c item.Counts) {
	for i := range s {
		c[s[i].Kind]++
	}
	return c
}

// From returns the index of the first slot whose hash is h or greater.
func (s Slots) From(h Hash) int {
	i, _ := slices.BinarySearchFunc(s, h, func(sl Slot, h Hash) int {
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

// Find returns the index at which the item is, or at which it belongs. Items
// whose hashes are the same are distinguished by kind and name.
func (s Slots) Find(h Hash, k item.Kind, name string) (i int, it *item.Item, err error) {
	for i = s.From(h); i < len(s) && s[i].Hash == h; i++ {
		if s[i].Kind != k {
			continue
		}
		it, err := item.DecodeItem(s[i].Item)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if it.Name == name {
			return i, it, nil
		}
	}
	return i, nil, nil
}

// HashOf returns the hash of the item of that kind and name, if it is among the slots. It
// compares names, and needs no placement key.
func (s Slots) HashOf(k item.Kind, name string) (h Hash, found bool) {
	for i := range s {
		if s[i].Kind != k {
			continue
		}
		if it, err := item.DecodeItem(s[i].Item); err == nil && it.Name == name {
			return s[i].Hash, true
		}
	}
	return 0, false
}

// Leaf is a page that is to be written, and its slots.
type Leaf struct {
	Place Prefix
	Slots Slots
}

// Leaves divides the slots among pages below p, or leaves them on p if they fit. None of
// the pages is too large, and together they cover what p does.
func (s Slots) Leaves(p Prefix) []Leaf {
	if !TooLarge(p, s) {
		return []Leaf{{p, s}}
	}
	children := s.Split(p)
	return append(children[0].Leaves(p.Child(0)), children[1].Leaves(p.Child(1))...)
}

// Split parts the slots between the two children of p.
func (s Slots) Split(p Prefix) (children [2]Slots) {
	middle := s.From(p.Child(1).First())
	return [2]Slots{s[:middle:middle], s[middle:]}
}

// TooLarge reports whether a page with these slots is to split.
func TooLarge(p Prefix, sl Slots) bool {
	return len(sl) > 1 && sl.Size() > SplitBytes && len(p) < MaxDepth
}
