// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Two changes of an item that one write commits: what refuses the second is a state that
// the first one makes. If that was not stored, the second has the fault for an answer,
// too, as has the first.
func TestRefusalsOfABatchWaitForItsWrite(t *testing.T) {
	remove := func(cur *item.Item) (*item.Item, error) {
		if cur == nil {
			return nil, item.ErrNotFound
		}
		return nil, nil
	}
	create := item.Write{Change: item.Change{Cas: item.Cas{Named: true}, Now: time.Now}, Data: []byte(`{}`)}.Replace("a")
	for name, c := range map[string]struct {
		there   bool
		change  func(*item.Item) (*item.Item, error)
		refusal error // of the second, if the write succeeds
	}{
		"delete": {true, remove, item.ErrNotFound},
		"create": {false, create, item.ErrRevision},
	} {
		for _, fault := range []storagetest.Fault{storagetest.None, storagetest.Before, storagetest.AfterStale} {
			t.Run(name+", "+fault.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := enginetest.Filled(t, 3)
					defer w.Close()
					if c.there {
						w.Put("a", "1")
					}
					w.Storage.Fail(enginetest.FailOn("put", "pages/", fault))
					op := func(name string, change func(*item.Item) (*item.Item, error)) *itemstore.Op {
						return &itemstore.Op{Kind: item.Secrets, Name: name, Change: change}
					}
					first, second, other := op("a", c.change), op("a", c.change), op("not there", remove)
					require.NoError(t, w.Engine.Items.Write(context.Background(), enginetest.TenantID, first, second, other))
					w.Storage.Fail(nil)
					if fault == storagetest.None {
						require.NoError(t, first.Err)
						require.ErrorIs(t, second.Err, c.refusal)
					} else {
						require.ErrorIs(t, first.Err, storagetest.ErrInjected)
						require.ErrorIs(t, second.Err, storagetest.ErrInjected)
					}
					require.ErrorIs(t, other.Err, item.ErrNotFound, "what no change of the batch decides")
				})
			})
		}
	}
}
