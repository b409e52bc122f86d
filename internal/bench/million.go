// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// loadConnections is how many requests at once load a million items: a request waits for
// storage for most of its time.
const loadConnections = 8

// readsPerSecond is the rate of foreground reads while a tenant rotates.
const readsPerSecond = 200

// rotateMillion measures a tenant of a million items: how fast it is loaded; rotations beside those of
// 100,000, alone and under reads, and at last one straight after Vault started.
func rotateMillion(ctx context.Context, b *bench) error {
	t, large := b.million(), b.large()
	if err := b.fill(ctx, large); err != nil {
		return err
	}
	took, err := timed(func() error { return b.loadMillion(ctx, t) })
	if err != nil {
		return err
	}
	b.set("bulk_million_items_per_second", float64(t.items)/took.Seconds())
	// What this and other figures have left in Vault's memory makes its collector slow, and
	// with it every read: so nothing of it is there.
	if err := b.restartVault(ctx); err != nil {
		return err
	}
	idle, err := b.readIdle(ctx, t)
	if err != nil {
		return err
	}
	b.set("read_p99_idle_ms", percentile(idle, 99))
	var loaded []float64 // the latencies of reads during rotations
	alone := b.rotating(t)
	rates, err := alternate(ctx, b.rounds(3), b.rotating(large), b.watchingMemory(alone),
		func(ctx context.Context) (float64, error) {
			reads := startOpenLoop(ctx, readsPerSecond, b.read(t))
			rate, err := alone(ctx)
			samples, readErr := reads.stop()
			loaded = append(loaded, samples...)
			if err == nil {
				err = readErr
			}
			return rate, err
		})
	if err != nil {
		return err
	}
	b.set("rotate_million_seconds", float64(t.items)/median(rates[1]))
	if b.peakMB > 0 { // else the system does not tell
		b.set("rotate_million_rss_mb", b.peakMB)
	}
	b.set("ratio_million_cost_per_item", medianRatio(rates[0], rates[1]))
	b.set("read_p99_rotating_ms", percentile(loaded, 99))
	b.set("ratio_rotate_loaded_vs_unloaded", medianRatio(rates[2], rates[1]))
	return b.rotateCold(ctx, t)
}

// loadMillion writes a million items into a new tenant, or so many by -scale, as a program
// does that moves in: in requests of as many items as one may have.
func (b *bench) loadMillion(ctx context.Context, t tenant) error {
	if err := b.vault.post(ctx, t.path(), nil); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loadConnections)
	for from := 0; from < t.items; from += maxBulk {
		g.Go(func() error {
			body, err := bulkBody(from, min(from+maxBulk, t.items))
			if err != nil {
				return err
			}
			return b.bulkWrite(ctx, t, body)
		})
	}
	return g.Wait()
}

// readIdle measures reads while nothing else goes on, after a warm-up.
func (b *bench) readIdle(ctx context.Context, t tenant) ([]float64, error) {
	if _, err := b.readFor(ctx, t, b.round()); err != nil {
		return nil, err
	}
	return b.readFor(ctx, t, 5*b.round())
}

func (b *bench) readFor(ctx context.Context, t tenant, d time.Duration) ([]float64, error) {
	reads := startOpenLoop(ctx, readsPerSecond, b.read(t))
	err := pause(ctx, d)
	samples, readErr := reads.stop()
	if err == nil {
		err = readErr
	}
	return samples, err
}

// watchingMemory reports the most memory that the engine's process has resident
// during rotations.
func (b *bench) watchingMemory(s side) side {
	return func(ctx context.Context) (float64, error) {
		pids, err := b.stack.PluginPIDs()
		if err != nil {
			return 0, err
		}
		watching, cancel := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for watching.Err() == nil {
				b.peakMB = max(b.peakMB, residentMB(pids))
				_ = pause(watching, 100*time.Millisecond) // the condition looks why
			}
		}()
		rate, err := s(ctx)
		cancel()
		<-watched
		return rate, err
	}
}

// rotateCold measures the first rotation after Vault has started: every page is
// read before the answer. It does not wait for the end.
func (b *bench) rotateCold(ctx context.Context, t tenant) error {
	if err := b.restartVault(ctx); err != nil {
		return err
	}
	took, err := timed(func() error { return b.vault.post(ctx, t.path()+"/dek/rotate", nil) })
	if err != nil {
		return err
	}
	b.set("rotate_call_cold_million_ms", took.Seconds()*1000)
	return nil
}

func (b *bench) restartVault(ctx context.Context) error {
	if err := b.stack.RestartVault(ctx); err != nil {
		return err
	}
	b.vault.http.CloseIdleConnections()
	return nil
}
