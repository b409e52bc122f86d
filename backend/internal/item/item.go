// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package item

import (
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Kind is a kind of item.
type Kind uint8

// The kinds of items.
const (
	Credentials Kind = iota
	APIKeys
	Secrets
)

// Kinds names them, in paths and in maps of counts.
var Kinds = [...]struct{ pathName, countName string }{
	Credentials: {"credentials", "credentials"},
	APIKeys:     {"apiKeys", "api_keys"},
	Secrets:     {"secrets", "secrets"},
}

// ParseKind returns the kind that a path names.
func ParseKind(s string) (Kind, bool) {
	for k := range Kinds {
		if Kinds[k].pathName == s {
			return Kind(k), true // #nosec G115 -- three kinds
		}
	}
	return 0, false
}

// String returns the kind's name in paths.
func (k Kind) String() string { return Kinds[k].pathName }

// Item is one item of a tenant.
type Item struct {
	Name     string
	Data     []byte // a JSON object, the secret; empty: the item has metadata alone
	Metadata map[string]string

	Revision  uint64 // from 1; 0 as long as no data was written
	CreatedAt time.Time
	UpdatedAt time.Time
	// RequestID identifies the request that wrote the item last. Vault repeats a
	// request after a crash of the plugin, and recognizes a repeated one by it.
	RequestID string
}

// HasData reports whether the item has a secret. One that was made by writing metadata
// alone has none before the first write of data.
func (it *Item) HasData() bool { return len(it.Data) > 0 }

// itemRecord is an item as a page holds it. Fields are only ever appended.
type itemRecord struct {
	_         struct{} `cbor:",toarray"`
	Name      string
	Data      []byte
	Metadata  map[string]string
	Revision  uint64
	CreatedAt int64 // nanoseconds since 1970, UTC
	UpdatedAt int64 // the same; 0 if it is that of the creation
	RequestID requestID
}

// Encode returns the item as a page holds it: CBOR, an array whose first element is
// the name.
func (it *Item) Encode() ([]byte, error) {
	r := itemRecord{
		Name: it.Name, Data: it.Data, Metadata: it.Metadata, Revision: it.Revision,
		CreatedAt: it.CreatedAt.UnixNano(), RequestID: requestID(it.RequestID),
	}
	if !it.UpdatedAt.Equal(it.CreatedAt) {
		r.UpdatedAt = it.UpdatedAt.UnixNano()
	}
	return cbor.Marshal(r)
}

// MustBeWithin bounds what callers give of an item: name, data and metadata. What the
// engine notes beside them grows with the item's changes, by some 50 bytes at most,
// and must not keep from being written again what was accepted before.
func (it *Item) MustBeWithin(most int) error {
	given, err := it.GivenBytes()
	if err == nil && given > most {
		err = fmt.Errorf("%w: it has %d bytes encoded, of at most %d (max_item_bytes)", ErrTooLarge, given, most)
	}
	return err
}

// GivenBytes returns the size of what callers give of an item, encoded.
func (it *Item) GivenBytes() (int, error) {
	given, err := cbor.Marshal(itemRecord{Name: it.Name, Data: it.Data, Metadata: it.Metadata})
	if err != nil {
		return 0, fmt.Errorf("encoding an item: %w", err)
	}
	return len(given), nil
}

// NameOf returns the name of an encoded item without decoding the rest: it comes
// first in an array that is too short for a length of more than one byte.
func NameOf(b []byte) (name string, err error) {
	const array, majorType = 0x80, 0xe0
	if len(b) == 0 || b[0]&majorType != array {
		return "", errors.New("an item is not an array")
	}
	if _, err := cbor.UnmarshalFirst(b[1:], &name); err != nil {
		return "", fmt.Errorf("decoding the name of an item: %w", err)
	}
	return name, nil
}

// DecodeItem is the reverse of [Item.Encode].
func DecodeItem(b []byte) (*Item, error) {
	var r itemRecord
	if err := cbor.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("decoding an item: %w", err)
	}
	if r.UpdatedAt == 0 {
		r.UpdatedAt = r.CreatedAt
	}
	return &Item{
		Name: r.Name, Data: r.Data, Metadata: r.Metadata, Revision: r.Revision,
		CreatedAt: time.Unix(0, r.CreatedAt).UTC(), UpdatedAt: time.Unix(0, r.UpdatedAt).UTC(),
		RequestID: string(r.RequestID),
	}, nil
}
