// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

const (
	trafficReaders = 4
	trafficWriters = 2
	// A writer's items are every writerShare-th, from its own number on. Nobody else
	// writes them, so it knows what they must hold.
	writerShare = 100
	// repeatLimit is how long a call is repeated. A killed plugin is back in a second.
	repeatLimit = 30 * time.Second
	repeatPause = 20 * time.Millisecond
)

// traffic is what clients of a tenant do, and what they were told: the demo loses nothing
// if each secret reads back as the last write that was acknowledged.
type traffic struct {
	tenant *client.Tenant
	secret []byte  // of which values are made
	acked  []int64 // by item: the number of the last write that was acknowledged

	reads, writes, repeated atomic.Int64
	slowest                 atomic.Int64 // nanoseconds that a call took, its repetitions included
}

func newTraffic(tenant *client.Tenant, items int) *traffic {
	t := &traffic{tenant: tenant, secret: make([]byte, 32), acked: make([]int64, items)}
	_, _ = rand.Read(t.secret) // it does not fail
	return t
}

func itemName(i int) string { return fmt.Sprintf("service-%02d/secret-%05d", i%50, i) }

// value is what the nth write of an item writes.
func (t *traffic) value(i int, n int64) string {
	mac := hmac.New(sha256.New, t.secret)
	_, _ = fmt.Fprintf(mac, "%d/%d", i, n) // a hash does not fail
	return hex.EncodeToString(mac.Sum(nil))
}

func (t *traffic) data(i int, n int64) client.ItemWrite {
	return client.ItemWrite{Data: map[string]any{"value": t.value(i, n)}}
}

var errDiffers = errors.New("differs from what was written")

func (t *traffic) same(i int, it *client.Item) error {
	if got, _ := it.Data["value"].(string); got != t.value(i, t.acked[i]) {
		return fmt.Errorf("secret %s: %w", itemName(i), errDiffers)
	}
	return nil
}

// fill writes all items for the first time.
func (t *traffic) fill(ctx context.Context) error {
	for from := 0; from < len(t.acked); from += client.MaxBulkItems {
		items := make([]client.BulkItem, min(client.MaxBulkItems, len(t.acked)-from))
		for k := range items {
			items[k] = client.BulkItem{Kind: client.Secrets, Name: itemName(from + k), ItemWrite: t.data(from+k, 0)}
		}
		results, err := t.tenant.WriteItems(ctx, items)
		if err != nil {
			return err
		}
		for k := range results {
			if results[k].Error != "" {
				return fmt.Errorf("secret %s: %s", items[k].Name, results[k].Error)
			}
		}
	}
	return nil
}

// run lets the clients work until the function that it returns is called. That returns
// the first thing that went wrong, in their last calls too.
func (t *traffic) run(ctx context.Context) (stop func() error) {
	working, cancel := context.WithCancel(ctx)
	clients, failed := errgroup.WithContext(working)
	client := func(call func(ctx context.Context) error) {
		clients.Go(func() error {
			for failed.Err() == nil {
				if err := call(context.WithoutCancel(ctx)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range trafficReaders {
		client(t.read)
	}
	for w := range trafficWriters {
		client(func(ctx context.Context) error { return t.write(ctx, w) })
	}
	return func() error {
		cancel()
		return clients.Wait()
	}
}

// read reads an item that no client writes, and compares it.
func (t *traffic) read(ctx context.Context) error {
	i := mathrand.N(len(t.acked)/writerShare)*writerShare + trafficWriters + mathrand.N(writerShare-trafficWriters) // #nosec G404 -- which item
	t.reads.Add(1)
	return t.repeat(func() error {
		it, err := t.tenant.ReadItem(ctx, client.Secrets, itemName(i))
		if err == nil {
			err = t.same(i, it)
		}
		return err
	})
}

// write writes one of a writer's items. What a write that failed has done is not known, so
// the same one is made again until it is acknowledged.
func (t *traffic) write(ctx context.Context, writer int) error {
	i := mathrand.N(len(t.acked)/writerShare)*writerShare + writer // #nosec G404 -- which item
	n := t.acked[i] + 1
	err := t.repeat(func() error {
		_, err := t.tenant.WriteItem(ctx, client.Secrets, itemName(i), t.data(i, n))
		return err
	})
	if err != nil {
		return err
	}
	t.acked[i] = n
	t.writes.Add(1)
	return nil
}

// repeat makes a call until it succeeds. A value that differs is none that may pass.
func (t *traffic) repeat(call func() error) error {
	began := time.Now()
	for {
		err := call()
		took := time.Since(began)
		if err == nil {
			was := t.slowest.Load()
			for int64(took) > was && !t.slowest.CompareAndSwap(was, int64(took)) {
				was = t.slowest.Load()
			}
			return nil
		}
		if errors.Is(err, errDiffers) || took > repeatLimit {
			return err
		}
		t.repeated.Add(1)
		time.Sleep(repeatPause)
	}
}

// compare reads every item back, once the clients have ended. It returns how many are as
// they were last written, and how many of those were written by the clients. The error
// names the first that is not.
func (t *traffic) compare(ctx context.Context) (same, rewritten int, err error) {
	for from := 0; from < len(t.acked); from += client.MaxBulkItems {
		names := make([]client.ItemName, min(client.MaxBulkItems, len(t.acked)-from))
		for k := range names {
			names[k] = client.ItemName{Kind: client.Secrets, Name: itemName(from + k)}
		}
		items, readErr := t.tenant.ReadItems(ctx, names)
		if readErr != nil {
			return same, rewritten, readErr
		}
		for k := range items {
			i := from + k
			problem := t.same(i, &items[k].Item)
			if items[k].Error != "" {
				problem = fmt.Errorf("secret %s: %s", itemName(i), items[k].Error)
			}
			switch {
			case problem == nil:
				same++
				if t.acked[i] > 0 {
					rewritten++
				}
			case err == nil:
				err = problem
			}
		}
	}
	return same, rewritten, err
}
