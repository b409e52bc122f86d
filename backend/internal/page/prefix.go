// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
)

// Prefix is the place of a page in its tenant's extendible hash: the leading bits,
// as a string of 0 and 1, that the hashes of all its items share. The root has the
// empty prefix. A prefix reveals nothing about names, because the hash is keyed.
type Prefix string

// MaxDepth is the number of bits of a hash, and so the longest prefix of a page.
const MaxDepth = 64

// Hash orders a tenant's items, and so decides on which page one lies.
type Hash uint64

// Bits returns the hash as a string of MaxDepth characters, the most
// significant bit first; each of its prefixes is a place.
func (h Hash) Bits() string {
	const width = MaxDepth
	b := strconv.FormatUint(uint64(h), 2)
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	return zeros[:width-len(b)] + b
}

// HashOf returns where an item belongs: HMAC-SHA-256 of its kind and name under the
// tenant's placement key, its first eight bytes.
func HashOf(placementKey []byte, k item.Kind, name string) Hash {
	mac := hmac.New(sha256.New, placementKey)
	mac.Write([]byte{byte(k)})
	mac.Write([]byte(name))
	return Hash(binary.BigEndian.Uint64(mac.Sum(nil)))
}

// String names the page in messages.
func (p Prefix) String() string { return "p" + string(p) }

// ParseName parses the name of an entry, which is that of a page or of a delta.
func ParseName(name string) (p Prefix, isDelta bool, err error) {
	malformed := fmt.Errorf("%w: entry %q is not named after a place", ErrDamaged, name)
	if len(name) == 0 || len(name) > 1+MaxDepth || name[0] != 'p' && name[0] != 'd' {
		return "", false, malformed
	}
	for _, c := range name[1:] {
		if c != '0' && c != '1' {
			return "", false, malformed
		}
	}
	return Prefix(name[1:]), name[0] == 'd', nil
}

// First is the least hash that p covers.
func (p Prefix) First() Hash {
	if p == "" {
		return 0
	}
	n, _ := strconv.ParseUint(string(p), 2, 64) // only 0 and 1, at most 64 of them
	return Hash(n << (MaxDepth - len(p)))
}

// Last is the greatest hash that p covers.
func (p Prefix) Last() Hash {
	if len(p) == MaxDepth {
		return p.First()
	}
	return p.First() | Hash(uint64(math.MaxUint64)>>len(p))
}

// Child covers the half of p's hashes whose next bit is side.
func (p Prefix) Child(side int) Prefix {
	return p + Prefix('0'+rune(side)) // #nosec G115 -- 0 or 1
}

// CoveredBy returns the shortest of the prefixes that is above p, if there is one. While
// that page exists, lookups end there, so p is left over from an unfinished split.
func (p Prefix) CoveredBy(places map[Prefix]bool) (above Prefix, ok bool) {
	for i := range len(p) {
		if places[p[:i]] {
			return p[:i], true
		}
	}
	return "", false
}
