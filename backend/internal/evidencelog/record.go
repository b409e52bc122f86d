// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A record says in the index whose event an entry is. The names are hashed, so that a
// record has a fixed size.
type record struct {
	tenant      [16]byte
	incarnation [8]byte
	event       [8]byte
	seq, index  int64
}

const recordSize = 48

// A fragment is what one entry in storage has of a part of the index.
const fragmentRecords = 4096

func newRecord(e *evidence.Event, index int64) record {
	r := record{event: eventTag(e.EventID), seq: e.Seq, index: index}
	r.tenant, r.incarnation = scopeOf(&e.Head).tags()
	return r
}

func (s scope) tags() (tenant [16]byte, incarnation [8]byte) {
	return tenantTag(s.tenant), [8]byte(hashName("incarnation", s.incarnation))
}

func tenantTag(tenant string) [16]byte { return [16]byte(hashName("tenant", tenant)) }

func eventTag(eventID string) [8]byte { return [8]byte(hashName("event", eventID)) }

func hashName(label, name string) []byte {
	sum := sha256.Sum256([]byte("vault-plugin-dek/evidence/index/" + label + "/" + name))
	return sum[:16]
}

// part is the part of a segment that has the records of a tenant: as many hexadecimal
// digits as the segment's level.
func (r *record) part(level int) string { return partOf(r.tenant, level) }

func partOf(tenant [16]byte, level int) string { return hex.EncodeToString(tenant[:])[:level] }

func compareRecords(a, b record) int {
	return cmp.Or(bytes.Compare(a.tenant[:], b.tenant[:]), cmp.Compare(a.index, b.index))
}

// encodeFragments encodes the records of a part, sorted. The first fragment begins with
// how many there are and the first tenant of each.
func encodeFragments(records []record) [][]byte {
	slices.SortFunc(records, compareRecords)
	count := max(1, (len(records)+fragmentRecords-1)/fragmentRecords)
	fragments := make([][]byte, count)
	fragments[0] = binary.BigEndian.AppendUint32(nil, uint32(count)) //nolint:gosec // far below 2^32
	for i := range count {
		if i*fragmentRecords < len(records) {
			fragments[0] = append(fragments[0], records[i*fragmentRecords].tenant[:]...)
		} else {
			fragments[0] = append(fragments[0], make([]byte, 16)...)
		}
	}
	for i, r := range records {
		f := &fragments[i/fragmentRecords]
		*f = append(*f, r.tenant[:]...)
		*f = append(*f, r.incarnation[:]...)
		*f = append(*f, r.event[:]...)
		*f = binary.BigEndian.AppendUint64(*f, uint64(r.seq))   //nolint:gosec // not negative
		*f = binary.BigEndian.AppendUint64(*f, uint64(r.index)) //nolint:gosec // not negative
	}
	return fragments
}

// decodeFirst decodes the first fragment of a part, and the first tenant of each.
func decodeFirst(data []byte) (firsts [][16]byte, records []record, err error) {
	if len(data) < 4 {
		return nil, nil, fmt.Errorf("%w: a part of the index is short", ErrDamaged)
	}
	count := int(binary.BigEndian.Uint32(data))
	data = data[4:]
	if count < 1 || count > len(data)/16 {
		return nil, nil, fmt.Errorf("%w: a part of the index is short", ErrDamaged)
	}
	for range count {
		firsts, data = append(firsts, [16]byte(data[:16])), data[16:]
	}
	records, err = decodeRecords(data)
	return firsts, records, err
}

func decodeRecords(data []byte) ([]record, error) {
	if len(data)%recordSize != 0 {
		return nil, fmt.Errorf("%w: a part of the index is cut off", ErrDamaged)
	}
	records := make([]record, 0, len(data)/recordSize)
	for ; len(data) > 0; data = data[recordSize:] {
		records = append(records, record{
			tenant: [16]byte(data[:16]), incarnation: [8]byte(data[16:24]), event: [8]byte(data[24:32]),
			seq:   int64(binary.BigEndian.Uint64(data[32:40])), //nolint:gosec // as written
			index: int64(binary.BigEndian.Uint64(data[40:48])), //nolint:gosec // as written
		})
	}
	return records, nil
}
