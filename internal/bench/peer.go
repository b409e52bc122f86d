// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

const (
	kvMount         = "kv"
	transitMount    = "transit"
	peerConnections = 32
	rewrapBatch     = 100
)

// peer is what people do without the engine: their secrets lie in KV v2 as
// transit ciphertexts, and after a rotation of transit's key a client rewraps
// them all.
type peer struct {
	b     *bench
	items int
}

// rotateVersusPeer compares rotations with the peer's.
func rotateVersusPeer(ctx context.Context, b *bench) error {
	t := b.large()
	if err := b.fill(ctx, t); err != nil {
		return err
	}
	p := &peer{b: b, items: b.sized(20_000)}
	if err := p.fill(ctx); err != nil {
		return err
	}
	var ours, theirs []float64
	for range b.rounds(2) {
		rate, err := b.rotating(t)(ctx)
		if err != nil {
			return err
		}
		ours = append(ours, rate)
		if rate, err = p.rotate(ctx); err != nil {
			return err
		}
		theirs = append(theirs, rate)
	}
	b.set("peer_items_per_second", median(theirs))
	b.set("ratio_rotate_vs_peer", medianRatio(ours, theirs))
	return nil
}

// mountKV mounts KV v2 and waits until it is ready to be written to.
func (b *bench) mountKV(ctx context.Context) error {
	return b.once("KV v2", func() error {
		err := b.vault.post(ctx, "sys/mounts/"+kvMount, map[string]any{
			"type": "kv", "options": map[string]string{"version": "2"},
		})
		if err != nil {
			return err
		}
		for {
			err := b.vault.post(ctx, kvMount+"/data/ready", map[string]any{"data": map[string]any{"value": ""}})
			if err == nil || !isStatus(err, http.StatusBadRequest) {
				return err
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	})
}

func (b *bench) mountTransit(ctx context.Context) error {
	return b.once("transit", func() error {
		if err := b.vault.post(ctx, "sys/mounts/"+transitMount, map[string]any{"type": "transit"}); err != nil {
			return err
		}
		return b.vault.post(ctx, transitMount+"/keys/bench", nil)
	})
}

// fill encrypts the items by transit and stores them in KV v2.
func (p *peer) fill(ctx context.Context) error {
	if err := p.b.mountKV(ctx); err != nil {
		return err
	}
	if err := p.b.mountTransit(ctx); err != nil {
		return err
	}
	return p.b.once(fmt.Sprintf("%d transit ciphertexts in KV v2", p.items), func() error {
		return p.eachBatch(ctx, func(ctx context.Context, names []string) error {
			entries := make([]map[string]string, len(names))
			for i := range entries {
				value := base64.StdEncoding.EncodeToString([]byte(floorplugin.Secret()))
				entries[i] = map[string]string{"plaintext": value}
			}
			ciphertexts, err := p.transit(ctx, "encrypt", entries)
			if err != nil {
				return err
			}
			for i, name := range names {
				if err := p.write(ctx, name, ciphertexts[i], 0); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// rotate rotates transit's key and rewraps the items: list, read, rewrap in
// batches, write back unless it has changed meanwhile.
func (p *peer) rotate(ctx context.Context) (itemsPerSecond float64, err error) {
	began := time.Now()
	if err := p.b.vault.post(ctx, transitMount+"/keys/bench/rotate", nil); err != nil {
		return 0, err
	}
	var listed struct {
		Keys []string `json:"keys"`
	}
	if err := p.b.vault.call(ctx, "LIST", kvMount+"/metadata/peer", nil, &listed); err != nil {
		return 0, err
	}
	if len(listed.Keys) != p.items {
		return 0, fmt.Errorf("KV v2 lists %d secrets, not %d", len(listed.Keys), p.items)
	}
	err = p.eachBatch(ctx, p.rewrap)
	return float64(p.items) / time.Since(began).Seconds(), err
}

func (p *peer) rewrap(ctx context.Context, names []string) error {
	entries := make([]map[string]string, len(names))
	versions := make([]int, len(names))
	for i, name := range names {
		ciphertext, version, err := p.read(ctx, name)
		if err != nil {
			return err
		}
		entries[i], versions[i] = map[string]string{"ciphertext": ciphertext}, version
	}
	ciphertexts, err := p.transit(ctx, "rewrap", entries)
	if err != nil {
		return err
	}
	for i, name := range names {
		if err := p.write(ctx, name, ciphertexts[i], versions[i]); err != nil {
			return err
		}
	}
	return nil
}

// eachBatch does op for the names of all items, in batches, each over a
// connection of its own.
func (p *peer) eachBatch(ctx context.Context, op func(context.Context, []string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(peerConnections)
	for from := 0; from < p.items && ctx.Err() == nil; from += rewrapBatch {
		var names []string
		for n := from; n < min(from+rewrapBatch, p.items); n++ {
			names = append(names, fmt.Sprintf("peer/service-%07d", n))
		}
		g.Go(func() error { return op(ctx, names) })
	}
	return g.Wait()
}

func (p *peer) read(ctx context.Context, name string) (ciphertext string, version int, err error) {
	var secret struct {
		Data     map[string]string `json:"data"`
		Metadata struct {
			Version int `json:"version"`
		} `json:"metadata"`
	}
	err = p.b.vault.call(ctx, http.MethodGet, kvMount+"/data/"+name, nil, &secret)
	return secret.Data["value"], secret.Metadata.Version, err
}

func (p *peer) write(ctx context.Context, name, ciphertext string, cas int) error {
	return p.b.vault.post(ctx, kvMount+"/data/"+name, map[string]any{
		"data": map[string]string{"value": ciphertext}, "options": map[string]int{"cas": cas},
	})
}

// transit has transit encrypt or rewrap a batch and returns the ciphertexts.
func (p *peer) transit(ctx context.Context, operation string, entries []map[string]string) ([]string, error) {
	body, err := json.Marshal(map[string]any{"batch_input": entries})
	if err != nil {
		return nil, err
	}
	answer, err := p.b.vault.send(ctx, http.MethodPost, transitMount+"/"+operation+"/bench", body)
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Data struct {
			Results []struct {
				Ciphertext string `json:"ciphertext"`
			} `json:"batch_results"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return nil, err
	}
	if len(parsed.Data.Results) != len(entries) {
		return nil, fmt.Errorf("transit answered %d of %d entries", len(parsed.Data.Results), len(entries))
	}
	ciphertexts := make([]string, len(entries))
	for i, result := range parsed.Data.Results {
		ciphertexts[i] = result.Ciphertext
	}
	return ciphertexts, nil
}
