// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"
	"google.golang.org/protobuf/proto"
)

// ErrUnwrap reports a wrapped key that does not open under its KEK: damaged, or
// moved from another place.
var ErrUnwrap = errors.New("wrapped key does not open")

// minWrapped is the least length of what the AEAD wrapper seals: nonce, key and
// tag. go-kms-wrapping v2.0.18 panics on anything below the nonce's 12 bytes.
const minWrapped = 12 + KeySize + 16

// Purpose tells keys of one tenant apart.
type Purpose string

// The purposes of a wrapped key.
const (
	PageKey      Purpose = "page"      // seals a tenant's pages
	PlacementKey Purpose = "placement" // keys the hash that places items on pages
	ExternalKey  Purpose = "external"  // seals what leaves the engine
)

// Owner identifies the incarnation of a tenant to which keys and data belong. A tenant
// that is created again under the same ID has another incarnation, and shares nothing
// with the earlier one.
type Owner struct {
	Tenant      string // its ID
	Incarnation string
}

// Binding returns where a key of the owner belongs.
func (o Owner) Binding(keyID string, t KeyType, p Purpose) Binding {
	return Binding{Owner: o, KeyID: keyID, KeyType: t, Purpose: p}
}

// Binding names the place of a wrapped key. It is the associated data of the
// wrapping, so a key opens at its own place alone.
type Binding struct {
	Owner
	KeyID   string
	KeyType KeyType
	Purpose Purpose
}

func (b Binding) associatedData() []byte {
	return AssociatedData("vault-plugin-dek/wrapped-key/v1",
		b.Tenant, b.Incarnation, b.KeyID, string(b.KeyType), string(b.Purpose))
}

// AssociatedData joins a label, which names what is sealed and the version of
// its format, with the parts that bind it. Each is preceded by its length as
// four bytes, most significant first, so that no two lists give the same bytes.
func AssociatedData(label string, parts ...string) []byte {
	var out []byte
	for _, p := range append([]string{label}, parts...) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p))) // #nosec G115 -- parts are names and headers, far below 4 GiB
		out = append(out, p...)
	}
	return out
}

// KEK wraps keys. It stands on go-kms-wrapping's interface, so that an external
// key-management service can take the place of the local AEAD one.
type KEK struct {
	ID      string
	wrapper wrapping.Wrapper
}

// NewKEK makes a KEK from key, which it keeps.
func NewKEK(id string, key []byte) (*KEK, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a KEK has %d bytes, not %d", KeySize, len(key))
	}
	w := aead.NewWrapper()
	if err := w.SetAesGcmKeyBytes(key); err != nil {
		return nil, fmt.Errorf("making the KEK: %w", err)
	}
	return &KEK{ID: id, wrapper: w}, nil
}

// Wrap seals key for the place that b names. What it returns is go-kms-wrapping's
// BlobInfo as protobuf, which has room for what an external service adds.
func (k *KEK) Wrap(ctx context.Context, key []byte, b Binding) ([]byte, error) {
	blob, err := k.wrapper.Encrypt(ctx, key, wrapping.WithAad(b.associatedData()))
	if err != nil {
		return nil, fmt.Errorf("wrapping a key: %w", err)
	}
	out, err := proto.Marshal(blob)
	if err != nil {
		return nil, fmt.Errorf("encoding a wrapped key: %w", err)
	}
	return out, nil
}

// Unwrap opens what Wrap sealed for the place that b names. It fails with
// [ErrUnwrap]. The caller should clear the key after use.
func (k *KEK) Unwrap(ctx context.Context, wrapped []byte, b Binding) ([]byte, error) {
	blob := new(wrapping.BlobInfo)
	if err := proto.Unmarshal(wrapped, blob); err != nil {
		return nil, fmt.Errorf("%w: malformed", ErrUnwrap)
	}
	if len(blob.Ciphertext) < minWrapped {
		return nil, fmt.Errorf("%w: too short", ErrUnwrap)
	}
	key, err := k.wrapper.Decrypt(ctx, blob, wrapping.WithAad(b.associatedData()))
	if err != nil {
		return nil, ErrUnwrap
	}
	return key, nil
}
