// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package floorplugin

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend"
)

// Name is the name of item n.
func Name(n int) string { return fmt.Sprintf("service-%07d/password", n) }

// Secret is a random value of [SecretBytes] characters.
func Secret() string {
	b := make([]byte, SecretBytes/2)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%x", b)
}

// Items are the items with the numbers from, up to but without to, as the body
// of a bulk write has them.
func Items(from, to int) []any {
	items := make([]any, 0, to-from)
	for n := from; n < to; n++ {
		items = append(items, map[string]any{
			"kind": "secrets", "name": Name(n), "data": map[string]any{"value": Secret()},
		})
	}
	return items
}

// NewRequest is a write as Vault hands it to a plugin, with an ID of its own.
func NewRequest(s logical.Storage, path string, data map[string]any) *logical.Request {
	return &logical.Request{
		ID: uuid.NewString(), Operation: logical.UpdateOperation,
		Path: path, Data: data, Storage: s, DisplayName: "root",
	}
}

// PageBytesPerItem is what an item takes of a page as it is stored, measured on
// an engine in memory.
func PageBytesPerItem(ctx context.Context) (float64, error) {
	const (
		tenant = "00000000-0000-4000-8000-000000000000"
		items  = 2000
	)
	s := new(logical.InmemStorage)
	b, err := backend.Factory(ctx, &logical.BackendConfig{
		StorageView: s, Logger: hclog.NewNullLogger(), System: logical.StaticSystemView{},
	})
	if err != nil {
		return 0, err
	}
	defer b.Cleanup(ctx)
	for _, write := range []*logical.Request{
		NewRequest(s, "tenants/"+tenant, nil),
		NewRequest(s, "tenants/"+tenant+"/items", map[string]any{"items": Items(0, items)}),
	} {
		resp, err := b.HandleRequest(ctx, write)
		if err == nil && resp != nil {
			err = resp.Error()
		}
		if err != nil {
			return 0, fmt.Errorf("measuring the size of an item: %w", err)
		}
	}
	stored, err := storedBytes(ctx, s, "pages/")
	return float64(stored) / items, err
}

// storedBytes is what the entries below prefix hold together.
func storedBytes(ctx context.Context, s logical.Storage, prefix string) (total int, err error) {
	keys, err := logical.CollectKeysWithPrefix(ctx, s, prefix)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		entry, err := s.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		if entry != nil {
			total += len(entry.Value)
		}
	}
	return total, nil
}
