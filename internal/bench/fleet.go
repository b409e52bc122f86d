// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/fleet"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

const (
	fleetMount = "fleet"
	// fleetItems is how many items each tenant of the fleet has, in one page.
	fleetItems = 10
	// fleetReads is the rate of reads while the fleet rotates.
	fleetReads = 100
)

// fleetOfAMillion measures the engine over a million tenants, in a process of its
// own.
func fleetOfAMillion(ctx context.Context, b *bench) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	measuring := exec.CommandContext(ctx, self, fleet.Arg, strconv.Itoa(b.sized(1_000_000))) // #nosec G204 G702 -- this program
	measuring.Stdout, measuring.Stderr = &out, os.Stderr
	if err := measuring.Run(); err != nil {
		return fmt.Errorf("measuring a million tenants: %w", err)
	}
	var f fleet.Figures
	if err := json.Unmarshal(out.Bytes(), &f); err != nil {
		return err
	}
	b.notef("%d tenants, all read %.0f s after the start; the first tick then took %.0f ms, an idle one made %d operations on storage; "+
		"the first status took %.0f ms; a page of 1000 tenants %.1f ms; a part of the fleet made %d operations on storage",
		f.Tenants, f.IndexSeconds, f.FirstTickMS, f.IdleTickReads, f.FirstStatusMS, f.ListPageMS, f.FleetPageReads)
	b.set("scheduler_idle_tick_ms", f.IdleTickMS)
	b.set("initialize_seconds", f.InitializeSeconds)
	b.set("status_ms", f.StatusMS)
	b.set("tenants_page_ms", f.ListPageMS)
	b.set("fleet_page_ms", f.FleetPageMS)
	b.set("fleet_search_ms", f.FleetSearchMS)
	if usage, ok := measuring.ProcessState.SysUsage().(*syscall.Rusage); ok {
		b.set("fleet_rss_mb", mostResidentMB(usage))
	}
	return nil
}

// fleetID is the ID of tenant n of the fleet on Vault.
func fleetID(n int) string { return floorplugin.FleetTenant(n) }

// rotateFleet makes 5,000 small tenants due at once and waits until all have
// been rotated, while their items are read.
func rotateFleet(ctx context.Context, b *bench) error {
	size := b.sized(5000)
	err := b.once(fmt.Sprintf("%d tenants of %d items", size, fleetItems), func() error {
		return b.mountFleet(ctx, size)
	})
	if err != nil {
		return err
	}
	if err := b.vault.post(ctx, fleetMount+"/config", map[string]any{"scheduler_jitter": 0}); err != nil {
		return err
	}
	read := func(ctx context.Context, n int) error {
		item := floorplugin.Name(n % fleetItems)
		_, err := b.vault.send(ctx, http.MethodGet, fleetMount+"/tenants/"+fleetID(n*7919%size)+"/secrets/"+item, nil)
		return err
	}
	reads := startOpenLoop(ctx, fleetReads, read)
	rate, err := b.rotateAll(ctx, size)
	samples, readErr := reads.stop()
	if err == nil {
		err = readErr
	}
	if err != nil {
		return err
	}
	b.set("fleet_rotations_per_second", rate)
	b.set("fleet_read_p99_ms", percentile(samples, 99))
	return nil
}

// mountFleet has the loader make the tenants, and then the engine run.
func (b *bench) mountFleet(ctx context.Context, size int) error {
	if err := b.mountLoader(ctx, fleetMount); err != nil {
		return err
	}
	err := b.vault.post(ctx, fleetMount+"/fleet", map[string]any{"tenants": size, "items": fleetItems})
	if err != nil {
		return err
	}
	if err := b.finishLoading(ctx, fleetMount); err != nil {
		return err
	}
	return b.waitForEvidence(ctx, size)
}

// waitForEvidence waits until the evidence log has the creation of each tenant. It was not
// told of them by the loader, and in a mount that is used it has had them for long.
func (b *bench) waitForEvidence(ctx context.Context, size int) error {
	for {
		var st struct {
			Size int `json:"evidence_size"`
		}
		if err := b.vault.call(ctx, http.MethodGet, fleetMount+"/status", nil, &st); err != nil || st.Size >= size {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// rotateAll makes every tenant due and returns the rotations a second, from the
// request to the end of the last one.
func (b *bench) rotateAll(ctx context.Context, size int) (float64, error) {
	began := time.Now()
	var asked struct {
		Scheduled int `json:"scheduled"`
	}
	err := b.vault.call(ctx, http.MethodPost, fleetMount+"/rotations", map[string]any{"all": true}, &asked)
	if err == nil && asked.Scheduled != size {
		err = fmt.Errorf("%d of %d tenants are scheduled", asked.Scheduled, size)
	}
	if err != nil {
		return 0, err
	}
	if err := b.waitForFleet(ctx); err != nil {
		return 0, err
	}
	ended, err := b.fleetEnded(ctx, size)
	return float64(size) / ended.Sub(began).Seconds(), err
}

// waitForFleet waits until nobody is overdue. It asks seldom: what is asked costs,
// too.
func (b *bench) waitForFleet(ctx context.Context) error {
	const every = 2 * time.Second
	for {
		if err := pause(ctx, every); err != nil {
			return err
		}
		var st struct {
			Active  int `json:"rotations_active"`
			Failed  int `json:"rotations_failed"`
			Overdue int `json:"overdue"`
		}
		if err := b.vault.call(ctx, http.MethodGet, fleetMount+"/status", nil, &st); err != nil {
			return err
		}
		if st.Failed > 0 {
			return fmt.Errorf("%d rotations failed", st.Failed)
		}
		if st.Active == 0 && st.Overdue == 0 {
			return nil
		}
	}
}

// fleetEnded sees that each tenant has one rotation, completed, and returns when
// the last of them was.
func (b *bench) fleetEnded(ctx context.Context, size int) (time.Time, error) {
	ends := make([]time.Time, size)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for n := range size {
		g.Go(func() error {
			path := fleetMount + "/tenants/" + fleetID(n) + "/dek/rotations"
			var list struct {
				Keys []string `json:"keys"`
			}
			if err := b.vault.call(ctx, "LIST", path, nil, &list); err != nil {
				return err
			}
			var r struct {
				Status      string    `json:"status"`
				CompletedAt time.Time `json:"completed_at"`
			}
			if len(list.Keys) != 1 {
				return fmt.Errorf("tenant %d has %d rotations", n, len(list.Keys))
			}
			if err := b.vault.call(ctx, http.MethodGet, path+"/"+list.Keys[0], nil, &r); err != nil {
				return err
			}
			if r.Status != "completed" {
				return fmt.Errorf("the rotation of tenant %d is %s", n, r.Status)
			}
			ends[n] = r.CompletedAt
			return nil
		})
	}
	err := g.Wait()
	last := ends[0]
	for _, at := range ends {
		if at.After(last) {
			last = at
		}
	}
	return last, err
}
