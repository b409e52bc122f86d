// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package floorplugin

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"
)

// storagePaths offers "fill", which writes entries of random bytes, and two works
// that tell how long they took: "move" gets, puts and gets again each of them, as
// a rotation does with pages whose old key is to be destroyed at once; "rewrite"
// gets and puts them, as one does whose pages are read again before a key that is
// kept for some days is destroyed.
func storagePaths() []*framework.Path {
	fields := map[string]*framework.FieldSchema{
		"entries":  {Type: framework.TypeInt, Description: "How many entries."},
		"bytes":    {Type: framework.TypeInt, Description: "The size of each."},
		"parallel": {Type: framework.TypeInt, Description: "How many at once."},
	}
	path := func(pattern string, each func(context.Context, logical.Storage, string, int) error) *framework.Path {
		return &framework.Path{
			Pattern: pattern,
			Fields:  fields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{Callback: timed(each)},
			},
		}
	}
	return []*framework.Path{path("fill", fill), path("move", move), path("rewrite", rewrite)}
}

// timed does each for every entry, in parallel, and answers with the seconds.
func timed(each func(context.Context, logical.Storage, string, int) error) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		entries, bytes, parallel := d.Get("entries").(int), d.Get("bytes").(int), d.Get("parallel").(int)
		if entries < 1 || bytes < 1 || parallel < 1 {
			return logical.ErrorResponse("entries, bytes and parallel must be at least 1"), nil
		}
		began := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for i := range entries {
			g.Go(func() error { return each(ctx, req.Storage, fmt.Sprintf("floor/%012b", i), bytes) })
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		return &logical.Response{Data: map[string]any{"seconds": time.Since(began).Seconds()}}, nil
	}
}

func fill(ctx context.Context, s logical.Storage, key string, bytes int) error {
	value := make([]byte, bytes)
	_, _ = rand.Read(value) // never fails
	return s.Put(ctx, &logical.StorageEntry{Key: key, Value: value})
}

func rewrite(ctx context.Context, s logical.Storage, key string, _ int) error {
	entry, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	if entry == nil {
		return fmt.Errorf("%s is not there", key)
	}
	return s.Put(ctx, entry)
}

func move(ctx context.Context, s logical.Storage, key string, bytes int) error {
	if err := rewrite(ctx, s, key, bytes); err != nil {
		return err
	}
	_, err := s.Get(ctx, key)
	return err
}
