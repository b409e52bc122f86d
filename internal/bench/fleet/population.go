// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	shards = 256
	year   = 365 * 24 * time.Hour
	// margin keeps the oldest key from becoming due while something is measured.
	margin = time.Hour
)

// population says which tenants there are. It holds four bytes of each: in which
// order a storage lists them. All else follows from a tenant's number.
type population struct {
	size int
	now  time.Time

	byShard [shards][]uint32
}

// newPopulation spreads tenants evenly over the days of the year before now: none
// is due.
func newPopulation(size int, now time.Time) *population {
	p := &population{size: size, now: now.UTC()}
	for i := range uint32(size) { // #nosec G115 -- a few millions
		s := shardOf(p.id(i))
		p.byShard[s] = append(p.byShard[s], i)
	}
	return p
}

// id is the ID of tenant i: random to look at, with the number at its end.
func (p *population) id(i uint32) string {
	id := uuid.UUID(p.bytes(i, "tenant"))
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	binary.BigEndian.PutUint32(id[12:], i)
	return id.String()
}

// number is the reverse of id.
func (p *population) number(tenantID string) (i uint32, found bool) {
	id, err := uuid.Parse(tenantID)
	if err != nil {
		return 0, false
	}
	i = binary.BigEndian.Uint32(id[12:])
	return i, int(i) < p.size && p.id(i) == tenantID
}

// bytes are random to look at, and the same at each call.
func (p *population) bytes(i uint32, of string) [16]byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(of), i))
	return [16]byte(sum[:16])
}

// rotatedAt is when the key of tenant i took over.
func (p *population) rotatedAt(i uint32) time.Time {
	const golden = 2654435769 // 2^32 divided by the golden ratio: spreads evenly
	age := time.Duration(float64(i*golden) / (1 << 32) * float64(year-margin))
	return p.now.Add(-margin / 2).Add(-age)
}

// shardOf is the part of storage in which a tenant lies: as in the engine, which
// make checks.
func shardOf(tenantID string) byte { return sha256.Sum256([]byte(tenantID))[0] }

func shardName(s byte) string { return hex.EncodeToString([]byte{s}) }

// ids are the IDs of tenants, sorted.
func (p *population) ids(numbers []uint32) []string {
	ids := make([]string, 0, len(numbers))
	for _, i := range numbers {
		ids = append(ids, p.id(i))
	}
	slices.Sort(ids)
	return ids
}
