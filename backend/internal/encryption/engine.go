// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Engine encrypts and decrypts for the tenants of one mount. It is safe for
// concurrent use.
type Engine struct {
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store
	now      func() time.Time
	log      func() hclog.Logger
	tried    func(ctx context.Context, tenantID string, versions []int) error
	notesTry func(v *keyring.Version, now time.Time) bool

	uses     *uses
	counters counters
}

// Config has the packages, the clock and the logger that an Engine uses.
type Config struct {
	Settings *settings.Store
	Keys     *keystore.Store
	Tenants  *tenant.Store
	Now      func() time.Time
	Log      func() hclog.Logger // asked for when there is something to log
	// Tried is called, before the answer, with versions of which something was opened, or
	// refused, after every holder had reported them gone. Its error fails the request.
	Tried func(ctx context.Context, tenantID string, versions []int) error
	// NotesTry reports whether a use of a version is news for Tried.
	NotesTry func(v *keyring.Version, now time.Time) bool
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{
		settings: c.Settings, keys: c.Keys, tenants: c.Tenants, now: c.Now, log: c.Log,
		tried: c.Tried, notesTry: c.NotesTry, uses: newUses(),
	}
}

// Plaintext is a text to seal.
type Plaintext struct {
	Plaintext      []byte
	AssociatedData []byte // the caller's; absent and empty are the same
}

// Ciphertext is a text to open.
type Ciphertext struct {
	Text           string // as the caller sent it
	AssociatedData []byte
	// OnlyIfOlder lets Rewrap leave a text of the active version as it is, once it
	// has been seen to open.
	OnlyIfOlder bool
}

// Sealed is the outcome of sealing one text.
type Sealed struct {
	Text    string // as [keyring.Text] has it
	Version int    // of the key that seals it
	Changed bool   // false: Rewrap has left the text as it was
	Err     error  // of this text alone: see errors.go
}

// Opened is the outcome of opening one text.
type Opened struct {
	Plaintext []byte
	// Lease is how long the caller may go on using a data key that was opened: one for
	// envelopes or files, which its associated data tell from other plaintexts. It is nil
	// of anything else.
	Lease *time.Duration
	Err   error // of this text alone: see errors.go
}
