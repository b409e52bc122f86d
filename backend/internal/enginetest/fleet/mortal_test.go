// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/hashicorp/vault/sdk/logical"
)

// mortal is a storage whose process can die: after so many operations from now
// nothing has an effect any more.
type mortal struct {
	*logical.InmemStorage
	left atomic.Int64 // negative: dead
}

var errDead = errors.New("the process has died")

func (m *mortal) alive(do func() error) error {
	if m.left.Add(-1) < 0 {
		return errDead
	}
	return do()
}

func (m *mortal) List(ctx context.Context, prefix string) (names []string, err error) {
	err = m.alive(func() error { names, err = m.InmemStorage.List(ctx, prefix); return err })
	return names, err
}

func (m *mortal) Get(ctx context.Context, key string) (e *logical.StorageEntry, err error) {
	err = m.alive(func() error { e, err = m.InmemStorage.Get(ctx, key); return err })
	return e, err
}

func (m *mortal) Put(ctx context.Context, e *logical.StorageEntry) error {
	return m.alive(func() error { return m.InmemStorage.Put(ctx, e) })
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	return m.alive(func() error { return m.InmemStorage.Delete(ctx, key) })
}
