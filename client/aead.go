// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// Bounds of an [AEAD] unless its options set tighter ones.
const (
	DefaultMaxAge      = 5 * time.Minute
	DefaultMaxMessages = 1 << 20
	DefaultMaxBytes    = 1 << 36
	DefaultMaxKeys     = 1024
)

// limits is what one data key may seal.
type limits struct{ messages, bytes int64 }

// AEAD encrypts and decrypts for one tenant in the process. It is safe for
// concurrent use; a program keeps one for each tenant that it works for, and
// closes it at the end.
type AEAD struct {
	tenant *Tenant
	keys   *keyCache
	maxAge time.Duration
	limits limits
	// lease is the latest that the engine told for this tenant, in nanoseconds: it
	// bounds keys that came with none. Below 0: none was told.
	lease atomic.Int64

	life context.Context // ends with Close: fetches outlive the call that began them
	end  context.CancelFunc
}

var _ tink.AEAD = (*AEAD)(nil)

// AEADOption changes what [Tenant.AEAD] makes. Values that are not positive, or
// beyond the defaults, are replaced by the defaults: the bounds can only be
// tightened.
type AEADOption func(*AEAD)

// WithMaxAge bounds how long a data key is kept.
func WithMaxAge(d time.Duration) AEADOption {
	return func(a *AEAD) { a.maxAge = within(d, DefaultMaxAge) }
}

// WithMaxMessages bounds how many messages one data key seals.
func WithMaxMessages(n int64) AEADOption {
	return func(a *AEAD) { a.limits.messages = within(n, DefaultMaxMessages) }
}

// WithMaxBytes bounds how many bytes of plaintext one data key seals.
func WithMaxBytes(n int64) AEADOption {
	return func(a *AEAD) { a.limits.bytes = within(n, DefaultMaxBytes) }
}

// WithMaxKeys bounds how many opened data keys are kept; it may be more than the
// default. Where texts of more data keys are read at random, Vault is asked for
// those that were evicted.
func WithMaxKeys(n int) AEADOption { return func(a *AEAD) { a.keys.entries = max(n, 1) } }

func within[N int64 | time.Duration](n, most N) N {
	if n <= 0 || n > most {
		return most
	}
	return n
}

// AEAD makes an AEAD for the tenant. It asks Vault for nothing until it is used.
func (t *Tenant) AEAD(opts ...AEADOption) *AEAD {
	life, end := context.WithCancel(context.Background())
	a := &AEAD{
		tenant: t, keys: newKeyCache(systemClock, DefaultMaxKeys), maxAge: DefaultMaxAge,
		limits: limits{DefaultMaxMessages, DefaultMaxBytes}, life: life, end: end,
	}
	a.lease.Store(-1)
	for _, opt := range opts {
		opt(a)
	}
	return a
}

// Close drops all keys, and ends the requests that are on their way. Everything
// after it fails with [ErrClosed].
func (a *AEAD) Close() error {
	a.keys.empty(true)
	a.end()
	return nil
}

// Forget drops all keys: the next call asks Vault. For a program that has learned
// that a version is destroyed, or a key leaked.
func (a *AEAD) Forget() { a.keys.empty(false) }

// Encrypt seals plaintext, and returns the text of an envelope. To open it, the
// same associatedData is needed.
func (a *AEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.EncryptContext(a.life, plaintext, associatedData)
}

// Decrypt opens an envelope, or a ciphertext of the engine's encrypt, which Vault
// opens.
func (a *AEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.DecryptContext(a.life, ciphertext, associatedData)
}

// EncryptContext is Encrypt, with a context for the case that Vault is asked.
func (a *AEAD) EncryptContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	k, err := a.keyFor(ctx, len(plaintext))
	if err != nil {
		return nil, err
	}
	return k.seal(plaintext, associatedData)
}

// DecryptContext is Decrypt, with a context for the case that Vault is asked. It
// fails with [ErrMalformed] or [ErrDecrypt], or with what Vault answers: [ErrInvalid]
// if the version is destroyed.
func (a *AEAD) DecryptContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	text := string(ciphertext)
	p, err := parse(text)
	if err != nil {
		return nil, err
	}
	if p.form == plainForm {
		return a.decryptInVault(ctx, text, associatedData)
	}
	k, err := a.openedKey(ctx, p.key)
	if err != nil {
		return nil, err
	}
	return k.open(p.sealed, associatedData)
}

func (a *AEAD) decryptInVault(ctx context.Context, text string, associatedData []byte) ([]byte, error) {
	if a.life.Err() != nil {
		return nil, ErrClosed
	}
	out, err := a.tenant.DecryptBatch(ctx, []Ciphertext{{text, associatedData}})
	if err != nil {
		return nil, err
	}
	return out[0].Plaintext, out[0].Err
}
