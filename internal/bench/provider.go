// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const (
	// otherTenants is how many tenants without a provider there are, and otherItems how many
	// items each has.
	otherTenants, otherItems = 200, 5
	// hangingRate is how many requests a second go to the tenant whose provider hangs.
	hangingRate = 50
	// One in writeEvery requests to the others is a write.
	writeEvery = 5
)

// Tenants with KEKs of their own, and one of the same size without.
var (
	leasedTenant  = tenant{devstack.Mount, "00000000-0000-4000-8000-00000000a001", 50}
	hangingTenant = tenant{devstack.Mount, "00000000-0000-4000-8000-00000000a002", 50}
	builtInTenant = tenant{devstack.Mount, "00000000-0000-4000-8000-00000000a003", 50}
)

// hangingOwner serves this Vault on another address of loopback until it hangs: then it takes
// requests and does not answer them.
type hangingOwner struct {
	server *http.Server
	hangs  atomic.Bool
	addr   string
}

func serveHangingOwner(ctx context.Context, vault string) (*hangingOwner, error) {
	target, err := url.Parse(vault)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &hangingOwner{addr: "http://" + l.Addr().String()}
	behind := httputil.NewSingleHostReverseProxy(target)
	o.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if o.hangs.Load() {
			// net/http notices that the client has hung up only once the body has been read.
			_, _ = io.Copy(io.Discard, req.Body)
			<-req.Context().Done()
			return
		}
		behind.ServeHTTP(w, req)
	})}
	go func() { _ = o.server.Serve(l) }()
	return o, nil
}

// provide makes a tenant whose own KEK is under a provider of its name, a key of transit in
// this Vault.
func (b *bench) provide(ctx context.Context, name string, t tenant, address, lease string) error {
	err := b.vault.post(ctx, t.mount+"/providers/"+name, map[string]any{
		"type": "transit", "lease": lease, "timeout": "1s", "tenants": []string{t.id},
		"parameters": map[string]any{
			"address": address, "token": b.stack.RootToken(), "key_name": "bench", "mount_path": transitMount, "disable_renewal": "true",
		},
	})
	if err != nil {
		return err
	}
	if err := b.vault.post(ctx, t.path(), map[string]any{"key_provider": name}); err != nil {
		return err
	}
	return b.writeItems(ctx, t)
}

func (b *bench) writeItems(ctx context.Context, t tenant) error {
	body, err := bulkBody(0, t.items)
	if err != nil {
		return err
	}
	return b.bulkWrite(ctx, t, body)
}

// leasedReads compares reads of a tenant whose own KEK has been opened by a key provider,
// whose lease runs, with those of one whose keys are under the mount's KEK.
func leasedReads(ctx context.Context, b *bench) error {
	if err := b.prepareLeased(ctx); err != nil {
		return err
	}
	rates, err := alternate(ctx, b.rounds(6), b.requests(b.read(leasedTenant)), b.requests(b.read(builtInTenant)))
	if err != nil {
		return err
	}
	b.set("read_leased_requests_per_second", median(rates[0]))
	b.set("ratio_read_leased_vs_built_in", medianRatio(rates[0], rates[1]))
	return nil
}

func (b *bench) prepareLeased(ctx context.Context) error {
	if err := b.mountTransit(ctx); err != nil {
		return err
	}
	if err := b.fill(ctx, builtInTenant); err != nil {
		return err
	}
	return b.once("a tenant under a key provider", func() error {
		return b.provide(ctx, "leased", leasedTenant, b.stack.VaultAddr(), "5m")
	})
}

// providerHanging measures requests to other tenants while clients ask for one: in turns one
// whose provider is well, and one whose provider takes calls and does not answer, and whose
// rotation waits for it.
func providerHanging(ctx context.Context, b *bench) error {
	if err := b.prepareLeased(ctx); err != nil {
		return err
	}
	var others [otherTenants]tenant
	for n := range others {
		others[n] = tenant{devstack.Mount, fmt.Sprintf("00000000-0000-4000-8000-0000000b%04d", n), otherItems}
	}
	err := b.once(fmt.Sprintf("%d tenants of %d items", otherTenants, otherItems), func() error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(connections)
		for _, t := range others {
			g.Go(func() error {
				if err := b.vault.post(ctx, t.path(), nil); err != nil {
					return err
				}
				return b.writeItems(ctx, t)
			})
		}
		return g.Wait()
	})
	if err != nil {
		return err
	}
	owner, err := serveHangingOwner(ctx, b.stack.VaultAddr())
	if err != nil {
		return err
	}
	defer func() { _ = owner.server.Close() }()
	if err := b.provide(ctx, "hanging", hangingTenant, owner.addr, "10s"); err != nil {
		return err
	}
	owner.hangs.Store(true)
	if err := b.untilOpen(ctx, hangingTenant, false); err != nil {
		return err
	}
	if err := b.vault.post(ctx, devstack.Mount+"/rotations", map[string]any{"tenants": []string{hangingTenant.id}}); err != nil {
		return err
	}
	hanging, well := b.concurrent(others[:], hangingTenant), b.concurrent(others[:], leasedTenant)
	if _, err := alternate(ctx, b.rounds(8), hanging.round, well.round); err != nil {
		return err
	}
	// The first round warms up.
	b.set("read_p99_provider_hanging_ms", median(hanging.reads[1:]))
	b.set("write_p99_provider_hanging_ms", median(hanging.writes[1:]))
	b.set("ratio_read_p99_provider_hanging", medianRatio(well.reads[1:], hanging.reads[1:]))
	b.set("ratio_write_p99_provider_hanging", medianRatio(well.writes[1:], hanging.writes[1:]))
	owner.hangs.Store(false)
	// So that no rotation is blocked while later figures are taken.
	if err := b.untilOpen(ctx, hangingTenant, true); err != nil {
		return err
	}
	return b.untilRotated(ctx, hangingTenant)
}

// untilOpen waits until a tenant's KEK is open, or is not because its provider is unavailable.
func (b *bench) untilOpen(ctx context.Context, t tenant, open bool) error {
	for {
		err := b.read(t)(ctx, 0)
		closed := isStatus(err, http.StatusServiceUnavailable)
		if err != nil && !closed {
			return err
		}
		if closed != open {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// untilRotated waits for the end of a tenant's first rotation, which has been asked for.
func (b *bench) untilRotated(ctx context.Context, t tenant) error {
	for {
		var list struct {
			Info map[string]struct {
				Status string `json:"status"`
			} `json:"key_info"`
		}
		// The list of a tenant without rotations is empty, which Vault answers with 404.
		err := b.vault.call(ctx, "LIST", t.path()+"/dek/rotations", nil, &list)
		if err != nil && !isStatus(err, http.StatusNotFound) {
			return err
		}
		for _, r := range list.Info {
			if r.Status == "completed" {
				return nil
			}
			if r.Status != "in_progress" {
				return fmt.Errorf("the rotation is %s", r.Status)
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// concurrentRequests go to other tenants while one is asked for.
type concurrentRequests struct {
	b             *bench
	others        []tenant
	one           tenant
	bodies        [][]byte
	reads, writes []float64 // the 99th percentiles of the rounds, in milliseconds
}

func (b *bench) concurrent(others []tenant, one tenant) *concurrentRequests {
	return &concurrentRequests{b: b, others: others, one: one, bodies: writeBodies()}
}

// round measures for a round and returns the requests a second.
func (o *concurrentRequests) round(ctx context.Context) (float64, error) {
	var mu sync.Mutex
	var reads, writes []float64
	asking := startOpenLoop(ctx, hangingRate, func(ctx context.Context, _ int) error {
		err := o.b.read(o.one)(ctx, 0)
		if isStatus(err, http.StatusServiceUnavailable) {
			return nil
		}
		return err
	})
	rate, err := closedLoop(ctx, connections, o.b.round(), func(ctx context.Context, n int) error {
		at, write := mixed(n, len(o.others))
		t := o.others[at]
		method, samples, body := http.MethodGet, &reads, []byte(nil)
		if write {
			method, samples, body = http.MethodPost, &writes, o.bodies[n%len(o.bodies)]
		}
		began := time.Now()
		_, err := o.b.vault.send(ctx, method, t.anyItem(), body)
		took := float64(time.Since(began)) / float64(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		*samples = append(*samples, took)
		return err
	})
	if _, asked := asking.stop(); err == nil {
		err = asked
	}
	o.reads, o.writes = append(o.reads, percentile(reads, 99)), append(o.writes, percentile(writes, 99))
	return rate, err
}

// mixed says which of the tenants the nth request is to, and whether it is a write. From one
// pass over the tenants to the next the writes move on by one, so that reads and writes are
// spread evenly over all.
func mixed(n, tenants int) (at int, write bool) {
	return n * stride % tenants, (n+n/tenants)%writeEvery == 0
}
