// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"net/http"
)

// sweepParallel is the engine's rotation_parallelism, and so the floor's.
const sweepParallel = 32

// rotating is the side that rotates a tenant: items a second.
func (b *bench) rotating(t tenant) side {
	return func(ctx context.Context) (float64, error) {
		r, err := b.rotate(ctx, t)
		return float64(t.items) / r.seconds, err
	}
}

func rotate20k(ctx context.Context, b *bench) error {
	t := b.medium()
	if err := b.fill(ctx, t); err != nil {
		return err
	}
	rates, err := alternate(ctx, b.rounds(5), b.rotating(t))
	if err != nil {
		return err
	}
	b.set("rotate_items_per_second_20k", median(rates[0]))
	return nil
}

// rotateVersusFloor compares a rotation with what storage alone takes.
func rotateVersusFloor(ctx context.Context, b *bench) error {
	t := b.large()
	if err := b.fill(ctx, t); err != nil {
		return err
	}
	pages, err := b.pages(ctx, t)
	if err != nil {
		return err
	}
	entries := floorEntries{pages, int(b.bytesPerItem * float64(t.items) / float64(pages)), sweepParallel}
	b.notef("the tenant has %d pages of %d bytes on average", entries.Entries, entries.Bytes)
	if _, err := b.floor(ctx, "fill", entries); err != nil {
		return err
	}
	floor := func(work string) side {
		return func(ctx context.Context) (float64, error) {
			took, err := b.floor(ctx, work, entries)
			return float64(pages) / took, err
		}
	}
	rates, err := alternate(ctx, b.rounds(5), b.rotating(t), floor("move"), floor("rewrite"))
	if err != nil {
		return err
	}
	pageRates := make([]float64, len(rates[0]))
	for i, items := range rates[0] {
		pageRates[i] = items / float64(t.items) * float64(pages)
	}
	b.set("rotate_items_per_second", median(rates[0]))
	b.set("rotate_pages_per_second", median(pageRates))
	b.set("floor_pages_per_second", median(rates[1]))
	b.set("floor_rewrite_pages_per_second", median(rates[2]))
	b.set("ratio_rotate_vs_floor", medianRatio(pageRates, rates[1]))
	b.set("ratio_rotate_vs_rewrite_floor", medianRatio(pageRates, rates[2]))
	return nil
}

// floorEntries is what the floor backend is to work on.
type floorEntries struct {
	Entries  int `json:"entries"`
	Bytes    int `json:"bytes"`
	Parallel int `json:"parallel"`
}

// floor has the floor backend do one of its works and returns the seconds.
func (b *bench) floor(ctx context.Context, work string, entries floorEntries) (float64, error) {
	var took struct {
		Seconds float64 `json:"seconds"`
	}
	err := b.vault.call(ctx, http.MethodPost, floorMount+"/"+work, entries, &took)
	return took.Seconds, err
}

// rotateCalls measures how long a caller waits for the answer, each time on a
// tenant whose last rotation has ended.
func rotateCalls(ctx context.Context, b *bench) error {
	t := b.large()
	if err := b.fill(ctx, t); err != nil {
		return err
	}
	var calls []float64
	for range max(b.rounds(30), 5) {
		r, err := b.rotate(ctx, t)
		if err != nil {
			return err
		}
		calls = append(calls, r.call.Seconds()*1000)
	}
	b.set("rotate_call_p50_ms", percentile(calls, 50))
	b.set("rotate_call_p99_ms", percentile(calls, 99))
	return nil
}
