// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"google.golang.org/protobuf/proto"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kms"
)

// Place is where a KEK belongs: to a tenant's incarnation. The KEK of the mount has no
// owner.
type Place struct {
	keyring.Owner
	KEKID string
}

func (p Place) associatedData() []byte {
	return keyring.AssociatedData("vault-plugin-dek/provided-kek/v1", p.Tenant, p.Incarnation, p.KEKID)
}

// names returns the associated data for a provider that has a map for it, which its owner
// sees: without the names of what there is none.
func (p Place) names() map[string]string {
	names := map[string]string{"dek_kek": p.KEKID}
	if p.Tenant != "" {
		names["dek_tenant"], names["dek_incarnation"] = p.Tenant, p.Incarnation
	}
	return names
}

// content is what a provider wraps.
type content struct {
	Format      uint8  `cbor:"1,keyasint"` // 1
	Tenant      string `cbor:"2,keyasint"`
	Incarnation string `cbor:"3,keyasint"`
	KEKID       string `cbor:"4,keyasint"`
	Key         []byte `cbor:"5,keyasint"`
}

const contentFormat = 1

// errAnswer reports an answer that is not what was wrapped: another key's, or nonsense.
// It says nothing about the KEK, which is not damaged by that.
var errAnswer = errors.New("the answer is not what was wrapped")

func wrapWith(ctx context.Context, w kms.Wrapper, p Place, key []byte) ([]byte, error) {
	plaintext, err := cbor.Marshal(content{contentFormat, p.Tenant, p.Incarnation, p.KEKID, key})
	if err != nil {
		return nil, fmt.Errorf("encoding a KEK: %w", err)
	}
	defer clear(plaintext)
	blob, err := w.Encrypt(ctx, plaintext, wrapping.WithAad(p.associatedData()), kms.WithContext(p.names()))
	if err != nil {
		return nil, err
	}
	wrapped, err := proto.Marshal(blob)
	if err != nil {
		return nil, fmt.Errorf("encoding a wrapped KEK: %w", err)
	}
	return wrapped, nil
}

func unwrapWith(ctx context.Context, w kms.Wrapper, p Place, wrapped []byte) ([]byte, error) {
	blob := new(wrapping.BlobInfo)
	if err := proto.Unmarshal(wrapped, blob); err != nil {
		return nil, errors.New("the wrapped KEK is malformed")
	}
	plaintext, err := w.Decrypt(ctx, blob, wrapping.WithAad(p.associatedData()), kms.WithContext(p.names()))
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	var c content
	if err := cbor.Unmarshal(plaintext, &c); err != nil {
		return nil, errAnswer // what the decoder says may quote the content
	}
	if c.Format != contentFormat || c.Tenant != p.Tenant || c.Incarnation != p.Incarnation || c.KEKID != p.KEKID ||
		len(c.Key) != keyring.KeySize {
		clear(c.Key)
		return nil, errAnswer
	}
	return c.Key, nil
}

// wrapAndOpen are the steps by which a provider wraps a KEK, and opens the result once.
func wrapAndOpen(p Place, key []byte, wrapped *[]byte) []step {
	return []step{
		func(ctx context.Context, w kms.Wrapper) (err error) {
			*wrapped, err = wrapWith(ctx, w, p, key)
			return err
		},
		func(ctx context.Context, w kms.Wrapper) error {
			opened, err := unwrapWith(ctx, w, p, *wrapped)
			defer clear(opened)
			if err == nil && subtle.ConstantTimeCompare(key, opened) != 1 {
				return errAnswer
			}
			return err
		},
	}
}

// probe are the steps by which a provider wraps and unwraps a random key.
func probe() ([]step, error) {
	id, err := keyring.NewID("probe-")
	if err != nil {
		return nil, fmt.Errorf("making a probe: %w", err)
	}
	var wrapped []byte
	return wrapAndOpen(Place{KEKID: id}, keyring.NewMaterial(), &wrapped), nil
}
