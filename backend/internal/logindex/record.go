// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package logindex

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

// A Scope is a sequence of events: those of a tenant's incarnation. The zero Scope is
// that of the mount.
type Scope struct{ TenantID, Incarnation string }

// ScopeOf returns the sequence that an event belongs to.
func ScopeOf(h *evidence.Head) Scope { return Scope{h.TenantID, h.Incarnation} }

// OfMount reports whether the events are about no tenant.
func (s Scope) OfMount() bool { return s == Scope{} }

func (s Scope) tags() (tenant [16]byte, incarnation [8]byte) {
	return tenantTag(s.TenantID), [8]byte(hashName("incarnation", s.Incarnation))
}

// An EventTag stands for an event's ID: a part of its hash.
type EventTag [8]byte

// TagOf returns the tag of an event's ID.
func TagOf(eventID string) EventTag { return EventTag(hashName("event", eventID)) }

// A Record says in the index whose event an entry is. The names are hashed, so that a
// record has a fixed size.
type Record struct {
	Event EventTag
	Seq   int64 // of the event in its sequence
	Index int64 // of its entry in the log

	tenant      [16]byte
	incarnation [8]byte
}

const recordSize = 48

// A fragment is what one entry in storage has of a part of the index.
const fragmentRecords = 4096

func newRecord(e *evidence.Event, index int64) Record {
	r := Record{Event: TagOf(e.EventID), Seq: e.Seq, Index: index}
	r.tenant, r.incarnation = ScopeOf(&e.Head).tags()
	return r
}

func tenantTag(tenant string) [16]byte { return [16]byte(hashName("tenant", tenant)) }

func hashName(label, name string) []byte {
	sum := sha256.Sum256([]byte("vault-plugin-dek/evidence/index/" + label + "/" + name))
	return sum[:16]
}

// part is the part of a segment that has the records of a tenant: as many hexadecimal
// digits as the segment's level.
func (r *Record) part(level int) string { return partOf(r.tenant, level) }

func partOf(tenant [16]byte, level int) string { return hex.EncodeToString(tenant[:])[:level] }

func compareRecords(a, b Record) int {
	return cmp.Or(bytes.Compare(a.tenant[:], b.tenant[:]), cmp.Compare(a.Index, b.Index))
}

// encodeFragments encodes the records of a part, sorted. The first fragment begins with
// how many there are and the first tenant of each.
func encodeFragments(records []Record) [][]byte {
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
		*f = append(*f, r.Event[:]...)
		*f = binary.BigEndian.AppendUint64(*f, uint64(r.Seq))   //nolint:gosec // not negative
		*f = binary.BigEndian.AppendUint64(*f, uint64(r.Index)) //nolint:gosec // not negative
	}
	return fragments
}

// decodeFirst decodes the first fragment of a part, and the first tenant of each.
func decodeFirst(data []byte) (firsts [][16]byte, records []Record, err error) {
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

func decodeRecords(data []byte) ([]Record, error) {
	if len(data)%recordSize != 0 {
		return nil, fmt.Errorf("%w: a part of the index is cut off", ErrDamaged)
	}
	records := make([]Record, 0, len(data)/recordSize)
	for ; len(data) > 0; data = data[recordSize:] {
		records = append(records, Record{
			tenant: [16]byte(data[:16]), incarnation: [8]byte(data[16:24]), Event: EventTag(data[24:32]),
			Seq:   int64(binary.BigEndian.Uint64(data[32:40])), //nolint:gosec // as written
			Index: int64(binary.BigEndian.Uint64(data[40:48])), //nolint:gosec // as written
		})
	}
	return records, nil
}
