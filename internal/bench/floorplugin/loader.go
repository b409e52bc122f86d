// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package floorplugin

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend"
)

// LoaderVersion is the version of the plugin that the loader is registered
// under. The mount is moved to the real one when it is loaded.
const LoaderVersion = "v0.0.1"

const flushParallel = 32

// loader makes the engine over a buffer in memory, with paths of its own: "fleet" makes many
// tenants, "flush" writes all entries to the mount's storage. Through the engine's API
// that would take some writes and a request each, which are not what is measured.
func loader(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	buffered := *conf
	buffer := new(logical.InmemStorage)
	buffered.StorageView = buffer
	engine, err := backend.Factory(ctx, &buffered)
	if err != nil {
		return nil, err
	}
	l := &load{engine: engine, buffer: buffer}
	b := &framework.Backend{
		BackendType:    logical.TypeLogical,
		RunningVersion: LoaderVersion,
		Clean:          engine.Cleanup,
		Paths: []*framework.Path{
			{
				Pattern: "fleet",
				Fields: map[string]*framework.FieldSchema{
					"from":    {Type: framework.TypeInt, Description: "The number of the first tenant."},
					"tenants": {Type: framework.TypeInt, Description: "How many tenants to create."},
					"items":   {Type: framework.TypeInt, Description: "How many items each has."},
				},
				Operations: map[logical.Operation]framework.OperationHandler{
					logical.UpdateOperation: &framework.PathOperation{Callback: l.fleet},
				},
			},
			{
				Pattern: "flush",
				Operations: map[logical.Operation]framework.OperationHandler{
					logical.UpdateOperation: &framework.PathOperation{Callback: l.flush},
				},
			},
		},
	}
	if err := b.Setup(ctx, conf); err != nil {
		return nil, err
	}
	return b, nil
}

type load struct {
	engine logical.Backend
	buffer *logical.InmemStorage
}

// FleetTenant is the ID of tenant n of a fleet.
func FleetTenant(n int) string { return fmt.Sprintf("00000000-0000-4000-9000-%012d", n) }

func (l *load) fleet(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	from, tenants, items := d.Get("from").(int), d.Get("tenants").(int), d.Get("items").(int)
	for n := range tenants {
		path := "tenants/" + FleetTenant(from+n)
		if resp, err := l.send(ctx, path, nil); err != nil || resp != nil && resp.IsError() {
			return resp, err
		}
		resp, err := l.send(ctx, path+"/items", map[string]any{"items": Items(0, items)})
		if err != nil || resp != nil && resp.IsError() {
			return resp, err
		}
	}
	return nil, nil
}

func (l *load) send(ctx context.Context, path string, data map[string]any) (*logical.Response, error) {
	return l.engine.HandleRequest(ctx, NewRequest(l.buffer, path, data))
}

// flush writes what is buffered to the mount's storage.
func (l *load) flush(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(flushParallel)
	err := logical.ScanView(ctx, l.buffer, func(key string) {
		g.Go(func() error {
			entry, err := l.buffer.Get(ctx, key)
			if err != nil || entry == nil {
				return err
			}
			return req.Storage.Put(ctx, entry)
		})
	})
	if flushErr := g.Wait(); flushErr != nil {
		return nil, flushErr
	}
	return nil, err
}
