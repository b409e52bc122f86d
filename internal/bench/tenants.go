// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// maxBulk is how many items a bulk write may have.
const maxBulk = 10_000

// tenant is one that figures are measured on.
type tenant struct {
	mount, id string
	items     int
}

func (t tenant) path() string { return t.mount + "/tenants/" + t.id }

// item is the path of any of the tenant's items.
func (t tenant) anyItem() string {
	return t.path() + "/secrets/" + floorplugin.Name(rand.IntN(t.items)) // #nosec G404 -- any will do
}

// The tenants of the engine's mount.
func (b *bench) large() tenant {
	return tenant{devstack.Mount, "00000000-0000-4000-8000-000000100000", b.sized(100_000)}
}

func (b *bench) medium() tenant {
	return tenant{devstack.Mount, "00000000-0000-4000-8000-000000020000", b.sized(20_000)}
}

func (b *bench) small() tenant {
	return tenant{devstack.Mount, "00000000-0000-4000-8000-000000000050", 50}
}

func (b *bench) million() tenant {
	return tenant{devstack.Mount, "00000000-0000-4000-8000-000001000000", b.sized(1_000_000)}
}

// fill creates a tenant with its items through the engine's API, once.
func (b *bench) fill(ctx context.Context, t tenant) error {
	return b.once(fmt.Sprintf("a tenant of %d items, %s", t.items, t.path()), func() error {
		if err := b.vault.post(ctx, t.path(), nil); err != nil {
			return err
		}
		for from := 0; from < t.items; from += maxBulk {
			body, err := bulkBody(from, min(from+maxBulk, t.items))
			if err != nil {
				return err
			}
			if err := b.bulkWrite(ctx, t, body); err != nil {
				return err
			}
		}
		return nil
	})
}

func bulkBody(from, to int) ([]byte, error) {
	return json.Marshal(map[string]any{"items": floorplugin.Items(from, to)})
}

// bulkWrite makes one request with many items and sees that each was written.
func (b *bench) bulkWrite(ctx context.Context, t tenant, body []byte) error {
	answer, err := b.vault.send(ctx, http.MethodPost, t.path()+"/items", body)
	if err != nil {
		return err
	}
	var parsed struct {
		Data struct {
			Results []struct {
				Error string `json:"error"`
			} `json:"results"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return err
	}
	for i, result := range parsed.Data.Results {
		if result.Error != "" {
			return fmt.Errorf("item %d was not written: %s", i, result.Error)
		}
	}
	return nil
}

// pages is how many pages hold the tenant's items.
func (b *bench) pages(ctx context.Context, t tenant) (int, error) {
	var dek struct {
		Versions []struct {
			Pages int `json:"pages"`
		} `json:"versions"`
	}
	if err := b.vault.call(ctx, http.MethodGet, t.path()+"/dek", nil, &dek); err != nil {
		return 0, err
	}
	pages := 0
	for _, v := range dek.Versions {
		pages += v.Pages
	}
	return pages, nil
}

// rotation is one that has ended.
type rotation struct {
	id      string
	call    time.Duration // until the answer
	seconds float64       // from the request until the end
}

// rotate rotates a tenant's key and waits for the end. The end is the engine's
// own, by the same clock: how often it is asked for does not count.
func (b *bench) rotate(ctx context.Context, t tenant) (rotation, error) {
	began := time.Now()
	var state struct {
		ID          string    `json:"rotation_id"`
		Status      string    `json:"status"`
		CompletedAt time.Time `json:"completed_at"`
	}
	if err := b.vault.call(ctx, http.MethodPost, t.path()+"/dek/rotate", nil, &state); err != nil {
		return rotation{}, err
	}
	r := rotation{id: state.ID, call: time.Since(began)}
	path := t.path() + "/dek/rotations/" + r.id
	for state.Status == "in_progress" {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return r, err
		}
		if err := b.vault.call(ctx, http.MethodGet, path, nil, &state); err != nil {
			return r, err
		}
	}
	if state.Status != "completed" {
		return r, fmt.Errorf("the rotation is %s", state.Status)
	}
	r.seconds = state.CompletedAt.Sub(began).Seconds()
	return r, nil
}

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
