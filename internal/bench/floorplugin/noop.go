// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package floorplugin

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"
)

// What the constants stand for: a secret of SecretBytes characters, and a
// ciphertext with a nonce of 24 bytes and a tag of 16.
const (
	SecretBytes = 200
	sealedExtra = 24 + 16
)

// noopPaths takes the requests of the engine that it is measured by, decodes
// them as the engine must, and answers with constants of the same size.
func noopPaths() []*framework.Path {
	text := func() *framework.FieldSchema { return &framework.FieldSchema{Type: framework.TypeString} }
	return []*framework.Path{
		{
			Pattern: `tenants/(?P<tenant_id>[^/]+)/(?P<kind>credentials|apiKeys|secrets)/(?P<name>[\s\S]+)$`,
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": text(), "kind": text(), "name": text(),
			},
			Callbacks: on(logical.ReadOperation, noopRead),
		},
		{
			Pattern: "write/(?P<size>page|small|mixed)/(?P<entry>[0-9]+)$",
			Fields: map[string]*framework.FieldSchema{
				"size": text(), "entry": text(), "data": {Type: framework.TypeMap},
			},
			Callbacks: on(logical.UpdateOperation, putOnce),
		},
		{
			Pattern:   "create/(?P<entry>[0-9a-f-]+)$",
			Fields:    map[string]*framework.FieldSchema{"entry": text()},
			Callbacks: on(logical.UpdateOperation, createOnly),
		},
		{
			Pattern: `tenants/(?P<tenant_id>[^/]+)/encrypt$`,
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": text(), "plaintext": text(), "associated_data": text(),
				"batch_input": {Type: framework.TypeSlice},
			},
			Callbacks: on(logical.UpdateOperation, noopEncrypt),
		},
	}
}

// on registers a handler as a Callback: with Operations the framework would ask
// Vault for its replication state before each request, over gRPC.
func on(op logical.Operation, f framework.OperationFunc) map[logical.Operation]framework.OperationFunc {
	return map[logical.Operation]framework.OperationFunc{op: f}
}

func noopRead(_ context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if _, ok := d.Get("name").(string); !ok {
		return nil, logical.ErrInvalidRequest
	}
	return &logical.Response{Data: map[string]any{
		"data":        map[string]any{"value": strings.Repeat("x", SecretBytes)},
		"metadata":    map[string]string{},
		"revision":    uint64(1),
		"key_version": 1,
		"created_at":  "2025-07-10T14:35:00.123456789Z",
		"updated_at":  "2025-07-10T14:35:00.123456789Z",
	}}, nil
}

// What a write may put: a page, of the mean size of those of the tenants measured,
// or a delta, and how many deltas the engine puts to a page there.
const (
	pageBytes     = 26_000
	deltaBytes    = 1_500
	deltasPerPage = 9
)

// written is the size of what a write puts.
func written(size string) int {
	switch {
	case size == "page", size == "mixed" && rand.IntN(deltasPerPage+1) == 0: // #nosec G404 -- any will do
		return pageBytes
	default:
		return deltaBytes
	}
}

// putOnce does of a write what cannot be left out: it puts one entry.
func putOnce(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	size, _ := d.Get("size").(string)
	entry, _ := d.Get("entry").(string)
	if _, ok := d.Get("data").(map[string]any); !ok || entry == "" {
		return nil, logical.ErrInvalidRequest
	}
	value := make([]byte, written(size))
	key := fmt.Sprintf("write/%s/%d/%s", size, len(value), entry) // pages and deltas apart, as the engine's are
	if err := req.Storage.Put(ctx, &logical.StorageEntry{Key: key, Value: value}); err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"revision": 1}}, nil
}

// createOnly does of the creation of a tenant what cannot be left out if nobody else creates
// one: it puts an intent, two keys at once, and the record, of the engine's sizes, and deletes
// the intent.
func createOnly(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	entry, _ := d.Get("entry").(string)
	if entry == "" {
		return nil, logical.ErrInvalidRequest
	}
	put := func(kind string, size int) error {
		return req.Storage.Put(ctx, &logical.StorageEntry{Key: "create/" + kind + "/" + entry, Value: make([]byte, size)})
	}
	if err := put("intent", 350); err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.Go(func() error { return put("key", 200) })
	g.Go(func() error { return put("placement", 200) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := put("record", 1000); err != nil {
		return nil, err
	}
	return nil, req.Storage.Delete(ctx, "create/intent/"+entry)
}

func noopEncrypt(_ context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	batch, isBatch := d.Raw["batch_input"].([]any)
	if !isBatch {
		plaintext, _ := d.Raw["plaintext"].(string)
		answer, err := noopCiphertext(plaintext)
		if err != nil {
			return nil, err
		}
		return &logical.Response{Data: answer}, nil
	}
	results := make([]map[string]any, len(batch))
	for i, entry := range batch {
		object, _ := entry.(map[string]any)
		plaintext, _ := object["plaintext"].(string)
		answer, err := noopCiphertext(plaintext)
		if err != nil {
			return nil, err
		}
		results[i] = answer
	}
	return &logical.Response{Data: map[string]any{"batch_results": results}}, nil
}

// noopCiphertext is what a ciphertext of plaintext looks like, without one.
func noopCiphertext(plaintext string) (map[string]any, error) {
	data, err := base64.StdEncoding.DecodeString(plaintext)
	if err != nil {
		return nil, logical.ErrInvalidRequest
	}
	sealed := strings.Repeat("A", base64.StdEncoding.EncodedLen(len(data)+sealedExtra))
	return map[string]any{"ciphertext": "dek:v1:" + sealed, "key_version": 1}, nil
}
