// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

// itemReads compares reads of items with a handler that answers constants.
func itemReads(ctx context.Context, b *bench) error {
	t := b.large()
	if err := b.fill(ctx, t); err != nil {
		return err
	}
	constants := tenant{floorMount, t.id, t.items}
	rates, err := alternate(ctx, b.rounds(3), b.requests(b.read(t)), b.requests(b.read(constants)))
	if err != nil {
		return err
	}
	b.set("read_requests_per_second", median(rates[0]))
	b.set("noop_read_requests_per_second", median(rates[1]))
	b.set("ratio_read_vs_noop", medianRatio(rates[0], rates[1]))
	return nil
}

// itemWrites compares writes of items, spread over many pages and all on one,
// with writes of KV v2, and with a handler that only puts one entry: as the engine
// does, mostly a small one, which is the floor; and always a page, or a small one,
// to tell what the size costs.
func itemWrites(ctx context.Context, b *bench) error {
	for _, prepare := range []func() error{
		func() error { return b.fill(ctx, b.large()) },
		func() error { return b.fill(ctx, b.small()) },
		func() error { return b.mountKV(ctx) },
	} {
		if err := prepare(); err != nil {
			return err
		}
	}
	rates, err := alternate(ctx, b.rounds(3),
		b.requests(b.write(b.large())), b.requests(b.write(b.small())), b.requests(b.writeKV()),
		b.requests(b.putOnce("mixed")), b.requests(b.putOnce("page")), b.requests(b.putOnce("small")))
	if err != nil {
		return err
	}
	b.set("write_requests_per_second", median(rates[0]))
	b.set("write_small_requests_per_second", median(rates[1]))
	b.set("kv2_write_requests_per_second", median(rates[2]))
	b.set("floor_write_requests_per_second", median(rates[3]))
	b.set("ratio_write_vs_kv2", medianRatio(rates[0], rates[2]))
	b.set("ratio_write_small_vs_kv2", medianRatio(rates[1], rates[2]))
	b.set("ratio_write_vs_floor", medianRatio(rates[0], rates[3]))
	b.set("ratio_floor_write_vs_kv2", medianRatio(rates[3], rates[2]))
	b.set("ratio_floor_page_write_vs_kv2", medianRatio(rates[4], rates[2]))
	b.set("ratio_floor_small_write_vs_kv2", medianRatio(rates[5], rates[2]))
	return nil
}

// bulkWrites compares requests with 10,000 items, each into a new tenant, with
// single writes of KV v2, and reports smaller ones into a full tenant.
func bulkWrites(ctx context.Context, b *bench) error {
	if err := b.mountKV(ctx); err != nil {
		return err
	}
	if err := b.fill(ctx, b.large()); err != nil {
		return err
	}
	items := b.sized(maxBulk)
	body, err := bulkBody(0, items)
	if err != nil {
		return err
	}
	var tenants atomic.Int64
	intoNew := func(ctx context.Context) (float64, error) {
		t := b.large()
		t.id = fmt.Sprintf("00000000-0000-4000-8000-00000001%04d", tenants.Add(1))
		if err := b.vault.post(ctx, t.path(), nil); err != nil {
			return 0, err
		}
		return b.bulkRate(ctx, t, body, items)
	}
	some := b.sized(1000)
	intoFull := func(ctx context.Context) (float64, error) {
		from := rand.IntN(b.large().items - some + 1) // #nosec G404 -- any will do
		body, err := bulkBody(from, from+some)
		if err != nil {
			return 0, err
		}
		return b.bulkRate(ctx, b.large(), body, some)
	}
	rates, err := alternate(ctx, b.rounds(4), intoNew, b.requests(b.writeKV()), intoFull)
	if err != nil {
		return err
	}
	b.set("bulk_write_items_per_second", median(rates[0]))
	b.set("ratio_bulk_write_vs_kv2", medianRatio(rates[0], rates[1]))
	b.set("bulk_write_full_items_per_second", median(rates[2]))
	return nil
}

// bulkRate makes one bulk write and returns its items a second.
func (b *bench) bulkRate(ctx context.Context, t tenant, body []byte, items int) (float64, error) {
	took, err := timed(func() error { return b.bulkWrite(ctx, t, body) })
	return float64(items) / took.Seconds(), err
}

func (b *bench) read(t tenant) func(context.Context, int) error {
	return func(ctx context.Context, _ int) error {
		_, err := b.vault.send(ctx, http.MethodGet, t.anyItem(), nil)
		return err
	}
}

// write writes any item of a tenant. The bodies are made beforehand, so that
// the client does little: it shares the machine.
func (b *bench) write(t tenant) func(context.Context, int) error {
	bodies := writeBodies()
	return func(ctx context.Context, n int) error {
		_, err := b.vault.send(ctx, http.MethodPost, t.anyItem(), bodies[n%len(bodies)])
		return err
	}
}

// writeKV writes any of 20,000 secrets of KV v2, which takes the same body.
func (b *bench) writeKV() func(context.Context, int) error {
	bodies := writeBodies()
	secrets := b.sized(20_000)
	return func(ctx context.Context, n int) error {
		path := kvMount + "/data/single/" + floorplugin.Name(rand.IntN(secrets)) // #nosec G404 -- any will do
		_, err := b.vault.send(ctx, http.MethodPost, path, bodies[n%len(bodies)])
		return err
	}
}

// putOnce has the floor backend put any of as many entries as a tenant of
// 100,000 items has pages. Its path is as long as an item's: Vault looks for a quota
// of requests at every one of its characters.
func (b *bench) putOnce(size string) func(context.Context, int) error {
	bodies := writeBodies()
	pages := b.sized(1050)
	digits := len(b.large().anyItem()) - len(floorMount+"/write/"+size+"/")
	return func(ctx context.Context, n int) error {
		path := fmt.Sprintf("%s/write/%s/%0*d", floorMount, size, digits, rand.IntN(pages)) // #nosec G404 -- any will do
		_, err := b.vault.send(ctx, http.MethodPost, path, bodies[n%len(bodies)])
		return err
	}
}

func writeBodies() [][]byte {
	bodies := make([][]byte, 64)
	for i := range bodies {
		// Marshalling strings cannot fail.
		bodies[i], _ = json.Marshal(map[string]any{"data": map[string]string{"value": floorplugin.Secret()}})
	}
	return bodies
}
