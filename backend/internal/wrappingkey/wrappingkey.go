// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package wrappingkey keeps the mount's wrapping key, the RSA key under which owners of
// tenants wrap the keys that they import, and rotates it.
//
// A key is stored under a random ID, then the record that names it is put: that is the
// commit point. After a rotation the record goes on naming the former key, under which
// what is wrapped is taken for [FormerFor] more; then the former key is destroyed, first
// its entry and then its name.
//
// A Put of the record that failed may have taken effect behind a stale cache, so a key
// that no record names as it reads may be the current one once the cache shows it. The
// public half of such a key was never answered. It is deleted only after the record was
// put as it was read.
//
// The entries are importstore's; this package has no storage prefix of its own. It must
// never answer the public half of a key that no successful Put has named and no Get has
// shown.
package wrappingkey

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/importstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const (
	// FormerFor is how long what is wrapped under a former key is taken.
	FormerFor = 24 * time.Hour

	// maxFormer bounds the former keys: each costs an RSA operation at an import that
	// does not unwrap, and making one costs seconds.
	maxFormer = 8
)

// ErrTooMany reports a rotation while as many former keys are still taken as may be.
var ErrTooMany = fmt.Errorf("%d former wrapping keys are still taken, each for %d hours after it was rotated: wait until the oldest is destroyed",
	maxFormer, FormerFor/time.Hour)

// Engine keeps the wrapping key of one mount. It is safe for concurrent use.
type Engine struct {
	keys     *importstore.Store
	now      func() time.Time
	generate func() ([]byte, error)
	jobs     *jobs.Runner
	log      hclog.Logger

	lock sync.Mutex // covers read-modify-write of the record
	due  time.Time  // when to look for keys to destroy; covered by lock
}

// Config has what an Engine uses.
type Config struct {
	Keys *importstore.Store
	Now  func() time.Time
	// Generate makes a private key: see [keyring.NewWrappingKey].
	Generate func() ([]byte, error)
	Jobs     *jobs.Runner
	Log      hclog.Logger
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{keys: c.Keys, now: c.Now, generate: c.Generate, jobs: c.Jobs, log: c.Log}
}

// Public is the public half of the wrapping key.
type Public struct {
	PEM string // PKIX
	// FormerUntil is until when what is wrapped under the key before is taken; zero:
	// there is none.
	FormerUntil time.Time
}

// Public returns the public half of the wrapping key, which is made if there is none.
// That takes seconds.
func (e *Engine) Public(ctx context.Context) (Public, error) {
	e.lock.Lock()
	defer e.lock.Unlock()
	r, err := e.keys.Wrapping(ctx)
	if err == nil && r == nil {
		r, err = e.make(ctx, nil, "")
	}
	if err != nil {
		return Public{}, err
	}
	return e.public(ctx, r)
}

// Rotate makes a new wrapping key and returns its public half. request is the ID of the
// request: sent again, it makes no other key. Where the record is damaged it begins another
// one: what is wrapped under the keys before is refused from then on, since nothing tells
// until when it was to be taken. It fails with [ErrTooMany].
func (e *Engine) Rotate(ctx context.Context, request string) (Public, error) {
	e.lock.Lock()
	defer e.lock.Unlock()
	r, err := e.keys.Wrapping(ctx)
	if storage.IsDamaged(err) {
		e.log.Warn("the record of wrapping keys is damaged: the keys before take no imports any more", "request_id", request)
		r, err = nil, nil
	}
	if err != nil {
		return Public{}, err
	}
	if r != nil && r.Request == request && request != "" {
		return e.public(ctx, r)
	}
	if r, err = e.make(ctx, r, request); err != nil {
		return Public{}, err
	}
	e.log.Info("wrapping key rotated", "request_id", request)
	return e.public(ctx, r)
}

// make makes the key that follows the one in r, nil if there is none. The caller holds
// the lock, and no tenant's: generating takes a while.
func (e *Engine) make(ctx context.Context, r *importstore.WrappingRecord, request string) (*importstore.WrappingRecord, error) {
	now := e.now()
	next := &importstore.WrappingRecord{CreatedAt: now, Request: request}
	if r != nil {
		next.Former = append(next.Former, importstore.FormerWrappingKey{KeyID: r.KeyID, DestroyAfter: now.Add(FormerFor)})
		next.Former = append(next.Former, r.Former...)
	}
	if len(next.Former) > maxFormer {
		return nil, ErrTooMany
	}
	der, err := e.generate()
	if err != nil {
		return nil, err
	}
	if next.KeyID, err = e.keys.AddWrappingKey(ctx, der); err != nil {
		return nil, err
	}
	e.due = time.Time{}
	return next, e.keys.PutWrapping(ctx, next)
}

func (e *Engine) public(ctx context.Context, r *importstore.WrappingRecord) (p Public, err error) {
	key, err := e.open(ctx, r.KeyID)
	if err != nil {
		return Public{}, err
	}
	if key == nil {
		return Public{}, fmt.Errorf("the wrapping key %s: %w", r.KeyID, keystore.ErrGone)
	}
	if len(r.Former) > 0 && e.now().Before(r.Former[0].DestroyAfter) {
		p.FormerUntil = r.Former[0].DestroyAfter
	}
	p.PEM, err = key.PublicPEM()
	return p, err
}

// open reads a key, nil if it is not in storage.
func (e *Engine) open(ctx context.Context, id string) (*keyring.WrappingKey, error) {
	der, err := e.keys.WrappingKey(ctx, id)
	if err != nil || der == nil {
		return nil, err
	}
	return keyring.ParseWrappingKey(der)
}

// Unwrap returns the key in an import, which the caller clears. Without a wrapping key
// nothing can have been wrapped: that reads like any other import that does not unwrap.
// It fails with [keyring.ErrNotWrapped] or [keyring.ErrConstantKey].
func (e *Engine) Unwrap(ctx context.Context, sent keyring.Import) ([]byte, error) {
	r, err := e.keys.Wrapping(ctx)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, keyring.ErrNotWrapped
	}
	ids := []string{r.KeyID}
	for _, f := range r.Former {
		if e.now().Before(f.DestroyAfter) {
			ids = append(ids, f.KeyID)
		}
	}
	return e.unwrapUnder(ctx, sent, ids)
}

// unwrapUnder tries one key after the other: an import does not say which it is for. A
// damaged key keeps no other from being tried.
func (e *Engine) unwrapUnder(ctx context.Context, sent keyring.Import, ids []string) ([]byte, error) {
	none := error(keyring.ErrNotWrapped)
	for _, id := range ids {
		key, err := e.open(ctx, id)
		if storage.IsDamaged(err) {
			none = err
			continue
		}
		if err != nil {
			return nil, err
		}
		if key == nil {
			continue // destroyed meanwhile
		}
		if material, err := key.Unwrap(sent); !isNotWrapped(err) {
			return material, err
		}
	}
	return nil, none
}
