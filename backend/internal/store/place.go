// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// Place is where a page lies in its tenant's extendible hash: the leading bits,
// as a string of 0 and 1, that the hashes of all its items share. The root is
// the empty place. Places tell nothing about names, since the hash is keyed.
type Place string

// maxDepth is how many bits a hash has, so how deep a page can lie.
const maxDepth = 64

// Hash orders a tenant's items, and so decides on which page one lies.
type Hash uint64

// bits returns the hash as a string of maxDepth characters, the most
// significant bit first; each of its prefixes is a place.
func (h Hash) bits() string {
	const width = maxDepth
	b := strconv.FormatUint(uint64(h), 2)
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	return zeros[:width-len(b)] + b
}

func hashOf(placementKey []byte, k Kind, name string) Hash {
	mac := hmac.New(sha256.New, placementKey)
	mac.Write([]byte{byte(k)})
	mac.Write([]byte(name))
	return Hash(binary.BigEndian.Uint64(mac.Sum(nil)))
}

// String names the page in messages.
func (p Place) String() string { return "p" + string(p) }

// parsePlace returns whose place the name of an entry is, a page's or a delta's.
func parsePlace(name string) (p Place, isDelta bool, err error) {
	malformed := fmt.Errorf("%w: entry %q is not named after a place", ErrPageDamaged, name)
	if len(name) == 0 || len(name) > 1+maxDepth || name[0] != 'p' && name[0] != 'd' {
		return "", false, malformed
	}
	for _, c := range name[1:] {
		if c != '0' && c != '1' {
			return "", false, malformed
		}
	}
	return Place(name[1:]), name[0] == 'd', nil
}

// first and last are the least and the greatest hash that p covers.
func (p Place) first() Hash {
	if p == "" {
		return 0
	}
	n, _ := strconv.ParseUint(string(p), 2, 64) // only 0 and 1, at most 64 of them
	return Hash(n << (maxDepth - len(p)))
}

func (p Place) last() Hash {
	if len(p) == maxDepth {
		return p.first()
	}
	return p.first() | Hash(uint64(math.MaxUint64)>>len(p))
}

// child covers the half of p's hashes whose next bit is side.
func (p Place) child(side int) Place {
	return p + Place('0'+rune(side)) // #nosec G115 -- 0 or 1
}

// coveredBy returns the shortest of places that is above p, if there is one.
// While a page exists it alone counts, so p is then left over from a split that
// did not finish.
func (p Place) coveredBy(places map[Place]bool) (above Place, ok bool) {
	for i := range len(p) {
		if places[p[:i]] {
			return p[:i], true
		}
	}
	return "", false
}
