// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// maxTextBytes bounds a string in a request to Vault.
const maxTextBytes = 1 << 20

// sealer seals the texts of one request under one version. The tenant's lock is
// held shared while it is used.
type sealer struct {
	keys    *keystore.Store
	tenant  *tenant.Record
	version *keyring.Version
	used    *used

	external keyring.AEAD // nil until something is sealed

	// All envelopes of a request share a fresh data key, so that clients ask for it
	// once. Its nonces are random and have 192 bits.
	dataKey    keyring.AEAD
	dataKeyFor keyring.Ciphertext
}

func (s *sealer) seal(ctx context.Context, k task) (Sealed, error) {
	if k.current != nil && k.current.Ciphertext.Version == s.version.Number {
		return Sealed{Text: k.current.String(), Version: s.version.Number}, nil
	}
	text, err := s.sealed(ctx, k)
	if err != nil {
		return Sealed{}, err
	}
	out := text.String()
	if len(out) > maxTextBytes {
		return Sealed{Err: ErrTooLong}, nil
	}
	return Sealed{Text: out, Version: s.version.Number, Changed: true}, nil
}

func (s *sealer) sealed(ctx context.Context, k task) (keyring.Text, error) {
	switch k.form {
	case keyring.FormEnvelope:
		if err := s.makeDataKey(ctx); err != nil {
			return keyring.Text{}, err
		}
		return keyring.SealEnvelope(s.dataKey, s.dataKeyFor, k.plaintext, k.ad)
	case keyring.FormFile:
		c, err := s.sealCiphertext(ctx, k.plaintext, []byte(keyring.FileKeyAD))
		return keyring.Text{Form: keyring.FormFile, Ciphertext: c}, err
	default:
		c, err := s.sealCiphertext(ctx, k.plaintext, k.ad)
		return keyring.Text{Ciphertext: c}, err
	}
}

func (s *sealer) sealCiphertext(ctx context.Context, plaintext, ad []byte) (keyring.Ciphertext, error) {
	c := keyring.Ciphertext{Version: s.version.Number}
	var err error
	if s.external == nil {
		if s.external, err = s.keys.ExternalKey(ctx, s.tenant.Owner(), s.version); err != nil {
			s.external = nil
			return c, err
		}
	}
	c.Sealed, err = s.external.Seal(plaintext, keyring.CiphertextAD(s.tenant.ID, s.tenant.Incarnation, s.version.KeyID, ad))
	if err != nil {
		return c, fmt.Errorf("encrypting under version %d: %w", s.version.Number, err)
	}
	s.used.note(s.version)
	return c, nil
}

// makeDataKey makes the data key of the request's envelopes, unless it is there.
func (s *sealer) makeDataKey(ctx context.Context) error {
	if s.dataKey != nil {
		return nil
	}
	key := keyring.NewMaterial()
	defer clear(key)
	c, err := s.sealCiphertext(ctx, key, []byte(keyring.EnvelopeKeyAD))
	if err != nil {
		return err
	}
	s.dataKeyFor = c
	s.dataKey, err = keyring.DataKeyAEAD(key)
	return err
}
