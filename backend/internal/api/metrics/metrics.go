// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package metrics serves the mount's figures as Prometheus text. The rooms of the engine
// count by themselves, in memory, and know nothing of Prometheus; this package gives what
// they count its names. No label holds the ID or the name of a tenant, or anything else
// that a caller chooses, but for the names of key providers, which operators give.
package metrics

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Rooms has what the path needs. Those that are made after the paths are asked for when a
// request comes.
type Rooms struct {
	*api.Operations

	Keys       *keystore.Store
	Tenants    *tenant.Store
	Items      *itemstore.Store
	Encryption *encryption.Engine
	Rotations  func() *rotation.Engine
	KEK        func() *kekrotation.Engine
	Schedule   func() *schedule.Engine
	Holders    func() *holders.Engine
	Ledger     func() *ledger.Ledger
	Providers  *provider.Store

	Version string // of the plugin
	Commit  string
}

// Path returns the path.
func (r *Rooms) Path() *framework.Path {
	return &framework.Path{
		Pattern: "metrics$",
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: r.On(r.read, "read metrics", "Read the mount's metrics.", map[int][]framework.Response{
				http.StatusOK: {{Description: "Prometheus text.", MediaType: string(contentType)}},
			}),
		},
		HelpSynopsis: "The mount's metrics, as Prometheus text.",
		HelpDescription: "For Prometheus and what reads its format: rotations, seals and opens, caches, what is overdue, paused " +
			"or failed, how old keys are, key providers, holders, the evidence log. Counters begin at 0 when the plugin starts. It needs a token with read, and " +
			"is no JSON: the vault command cannot show it.",
	}
}

// contentType is the text format of Prometheus.
var contentType = expfmt.NewFormat(expfmt.TypeTextPlain)

func (r *Rooms) read(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	now, err := r.observe(ctx)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(now); err != nil {
		return nil, fmt.Errorf("registering the metrics: %w", err)
	}
	families, err := registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gathering the metrics: %w", err)
	}
	var text bytes.Buffer
	encoder := expfmt.NewEncoder(&text, contentType)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return nil, fmt.Errorf("encoding the metrics: %w", err)
		}
	}
	return &logical.Response{Data: map[string]any{
		logical.HTTPContentType: string(contentType),
		logical.HTTPRawBody:     text.Bytes(),
		logical.HTTPStatusCode:  http.StatusOK,
	}}, nil
}
