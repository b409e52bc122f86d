// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

const (
	manyMount = "many"
	// manyItems is how many items each of many tenants has, in one page.
	manyItems = 5
	// coldTenants is how many of them are asked for after a start, and encrypt: each use of
	// a key is noted with a write on its day, and those writes would go on beside what is
	// measured next.
	coldTenants = 3000
	// stride spreads successive requests over all tenants. It is prime, and divides no
	// number of tenants that is measured.
	stride = 7919
)

// many are small tenants, all of which are asked for equally often, beside as many
// secrets of KV v2 and as many keys of transit.
type many struct {
	b       *bench
	tenants int
	body    []byte // of an encrypt request
	bodies  [][]byte
	created atomic.Int64
}

// manyTenants measures requests that are spread evenly over many tenants: first to
// each one after a start, when nothing is in memory, then in turns with KV v2 and transit.
func manyTenants(ctx context.Context, b *bench) error {
	m := &many{b: b, tenants: b.sized(10_000), bodies: writeBodies()}
	var err error
	if m.body, err = json.Marshal(map[string]any{"plaintext": plaintext()}); err != nil {
		return err
	}
	if err := m.prepare(ctx); err != nil {
		return err
	}
	if err := m.cold(ctx); err != nil {
		return err
	}
	return m.warm(ctx)
}

// prepare makes the peers first, so that the engine has just started when it is measured.
func (m *many) prepare(ctx context.Context) error {
	b := m.b
	if err := b.mountKV(ctx); err != nil {
		return err
	}
	if err := b.mountTransit(ctx); err != nil {
		return err
	}
	err := b.once(fmt.Sprintf("%d secrets of KV v2 and keys of transit", m.tenants), func() error {
		if _, err := m.each(ctx, m.tenants, m.writeKV); err != nil {
			return err
		}
		_, err := m.each(ctx, m.tenants, func(ctx context.Context, n int) error {
			_, err := b.vault.send(ctx, http.MethodPost, transitMount+"/keys/"+fleetID(n%m.tenants), nil)
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	return b.once(fmt.Sprintf("%d tenants of %d items", m.tenants, manyItems), func() error {
		if err := b.mountLoader(ctx, manyMount); err != nil {
			return err
		}
		// A request has 90 seconds.
		for from := 0; from < m.tenants; from += 5000 {
			err := b.vault.post(ctx, manyMount+"/fleet", map[string]any{
				"from": from, "tenants": min(5000, m.tenants-from), "items": manyItems,
			})
			if err != nil {
				return err
			}
		}
		return b.finishLoading(ctx, manyMount)
	})
}

// cold sends one request each to a part of the tenants after a start. The index of the
// schedule is read at the same time, as after every start.
func (m *many) cold(ctx context.Context) error {
	n := min(m.tenants, coldTenants)
	took := make([]float64, n)
	read, err := m.each(ctx, n, func(ctx context.Context, i int) error {
		began := time.Now()
		defer func() { took[i] = float64(time.Since(began)) / float64(time.Millisecond) }()
		return m.read(ctx, i)
	})
	if err != nil {
		return err
	}
	m.b.set("fleet_cold_read_p99_ms", percentile(took, 99))
	if err := m.restart(ctx); err != nil {
		return err
	}
	write, err := m.each(ctx, n, m.write)
	if err != nil {
		return err
	}
	if err := m.restart(ctx); err != nil {
		return err
	}
	encrypt, err := m.each(ctx, n, m.encrypt)
	if err != nil {
		return err
	}
	m.b.set("fleet_cold_reads_per_second", read)
	m.b.set("fleet_cold_writes_per_second", write)
	m.b.set("fleet_cold_encrypts_per_second", encrypt)
	return nil
}

func (m *many) restart(ctx context.Context) error {
	return m.b.vault.post(ctx, "sys/plugins/reload/backend", map[string]any{"mounts": manyMount + "/"})
}

// warm compares requests to any tenant, all of which have been asked for before, with
// those to any secret of KV v2 and any key of transit.
func (m *many) warm(ctx context.Context) error {
	if _, err := m.each(ctx, m.tenants, m.read); err != nil {
		return err
	}
	b := m.b
	rates, err := alternate(ctx, b.rounds(3),
		b.requests(m.read), b.requests(m.readKV), b.requests(m.write), b.requests(m.writeKV),
		b.requests(m.encrypt), b.requests(m.encryptTransit), b.requests(m.create), b.requests(m.createKV),
		b.requests(m.readNoop), b.requests(m.encryptNoop), b.requests(m.createFloor))
	if err != nil {
		return err
	}
	b.set("fleet_read_any_vs_kv2", medianRatio(rates[0], rates[1]))
	b.set("fleet_write_any_vs_kv2", medianRatio(rates[2], rates[3]))
	b.set("fleet_encrypt_any_vs_transit", medianRatio(rates[4], rates[5]))
	b.set("fleet_create_vs_kv2", medianRatio(rates[6], rates[7]))
	b.set("fleet_read_any_vs_noop", medianRatio(rates[0], rates[8]))
	b.set("fleet_encrypt_any_vs_noop", medianRatio(rates[4], rates[9]))
	b.set("fleet_create_vs_floor", medianRatio(rates[6], rates[10]))
	b.set("ratio_floor_create_vs_kv2", medianRatio(rates[10], rates[7]))
	b.set("ratio_noop_any_vs_kv2", medianRatio(rates[8], rates[1]))
	b.set("fleet_reads_per_second", median(rates[0]))
	b.set("fleet_writes_per_second", median(rates[2]))
	b.set("fleet_encrypts_per_second", median(rates[4]))
	b.set("fleet_creates_per_second", median(rates[6]))
	return m.exempt(ctx)
}

// exempt reads once more, with and without both mounts exempt from Vault's rate-limit quotas,
// for which Vault otherwise looks at every character of a path.
func (m *many) exempt(ctx context.Context) error {
	b := m.b
	exempt := func(ctx context.Context, paths ...string) error {
		return b.vault.post(ctx, "sys/quotas/config", map[string]any{"rate_limit_exempt_paths": append([]string{}, paths...)})
	}
	with := func(s side, paths ...string) side {
		return func(ctx context.Context) (float64, error) {
			if err := exempt(ctx, paths...); err != nil {
				return 0, err
			}
			return s(ctx)
		}
	}
	read, readKV := b.requests(m.read), b.requests(m.readKV)
	mounts := []string{manyMount + "/", kvMount + "/"}
	rates, err := alternate(ctx, b.rounds(2), with(read), with(read, mounts...), with(readKV, mounts...))
	if err != nil {
		return err
	}
	b.set("ratio_read_any_exempt", medianRatio(rates[1], rates[0]))
	b.set("fleet_read_any_exempt_vs_kv2", medianRatio(rates[1], rates[2]))
	return exempt(ctx)
}

// each sends one request for each of so many tenants and returns the requests a second.
func (m *many) each(ctx context.Context, tenants int, op func(context.Context, int) error) (float64, error) {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for n := range tenants {
		g.Go(func() error { return op(ctx, n) })
	}
	err := g.Wait()
	return float64(tenants) / time.Since(began).Seconds(), err
}

func (m *many) any(n int) string { return fleetID(n * stride % m.tenants) }

func (m *many) item(n int) string {
	return manyMount + "/tenants/" + m.any(n) + "/secrets/" + floorplugin.Name(n%manyItems)
}

func (m *many) send(ctx context.Context, method, path string, body []byte) error {
	_, err := m.b.vault.send(ctx, method, path, body)
	return err
}

func (m *many) read(ctx context.Context, n int) error {
	return m.send(ctx, http.MethodGet, m.item(n), nil)
}

func (m *many) write(ctx context.Context, n int) error {
	return m.send(ctx, http.MethodPost, m.item(n), m.bodies[n%len(m.bodies)])
}

func (m *many) encrypt(ctx context.Context, n int) error {
	id := fleetID(n * stride % min(m.tenants, coldTenants))
	return m.send(ctx, http.MethodPost, manyMount+"/tenants/"+id+"/encrypt", m.body)
}

// create makes tenants beyond those that are measured.
func (m *many) create(ctx context.Context, _ int) error {
	id := fleetID(m.tenants + int(m.created.Add(1)))
	return m.send(ctx, http.MethodPost, manyMount+"/tenants/"+id, nil)
}

func (m *many) readKV(ctx context.Context, n int) error {
	return m.send(ctx, http.MethodGet, kvMount+"/data/many/"+m.any(n), nil)
}

func (m *many) writeKV(ctx context.Context, n int) error {
	return m.send(ctx, http.MethodPost, kvMount+"/data/many/"+m.any(n), m.bodies[n%len(m.bodies)])
}

func (m *many) createKV(ctx context.Context, n int) error {
	id := fleetID(m.tenants + int(m.created.Add(1)))
	return m.send(ctx, http.MethodPost, kvMount+"/data/new/"+id, m.bodies[n%len(m.bodies)])
}

// readNoop, encryptNoop and createFloor ask a plugin that does of the same request only what
// no plugin can leave out.
func (m *many) readNoop(ctx context.Context, n int) error {
	return m.send(ctx, http.MethodGet, floorMount+strings.TrimPrefix(m.item(n), manyMount), nil)
}

func (m *many) encryptNoop(ctx context.Context, n int) error {
	return m.send(ctx, http.MethodPost, floorMount+"/tenants/"+m.any(n)+"/encrypt", m.body)
}

func (m *many) createFloor(ctx context.Context, _ int) error {
	return m.send(ctx, http.MethodPost, floorMount+"/create/"+fleetID(int(m.created.Add(1))), nil)
}

func (m *many) encryptTransit(ctx context.Context, n int) error {
	return m.send(ctx, http.MethodPost, transitMount+"/encrypt/"+m.any(n), m.body)
}
