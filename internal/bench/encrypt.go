// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

// encryptBatch is how many plaintexts a batch request has.
const encryptBatch = 100

func encrypts(ctx context.Context, b *bench) error {
	return b.compareEncrypt(ctx, "encrypt", map[string]any{"plaintext": plaintext()})
}

func encryptBatches(ctx context.Context, b *bench) error {
	entries := make([]map[string]string, encryptBatch)
	for i := range entries {
		entries[i] = map[string]string{"plaintext": plaintext()}
	}
	return b.compareEncrypt(ctx, "encrypt_batch", map[string]any{"batch_input": entries})
}

func plaintext() string {
	return base64.StdEncoding.EncodeToString([]byte(floorplugin.Secret()))
}

// compareEncrypt sends one request to the engine, to a handler that decodes it
// and answers a constant, and to transit.
func (b *bench) compareEncrypt(ctx context.Context, name string, request any) error {
	t := b.small()
	if err := b.fill(ctx, t); err != nil {
		return err
	}
	if err := b.mountTransit(ctx); err != nil {
		return err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	to := func(path string) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error {
			_, err := b.vault.send(ctx, http.MethodPost, path, body)
			return err
		}
	}
	engine := to(t.path() + "/encrypt")
	if err := engine(ctx, 0); err != nil {
		return notThere(err)
	}
	rates, err := alternate(ctx, b.rounds(4), b.requests(engine),
		b.requests(to(floorMount+"/tenants/"+t.id+"/encrypt")), b.requests(to(transitMount+"/encrypt/bench")))
	if err != nil {
		return err
	}
	b.set(name+"_requests_per_second", median(rates[0]))
	b.set("ratio_"+name+"_vs_noop", medianRatio(rates[0], rates[1]))
	b.set("ratio_"+name+"_vs_transit", medianRatio(rates[0], rates[2]))
	return nil
}
