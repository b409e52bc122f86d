// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Arg is what the benchmark's own binary is started with to measure.
const Arg = "measure-fleet"

// Figures are what Measure prints, as JSON.
type Figures struct {
	Tenants           int     `json:"tenants"`
	InitializeSeconds float64 `json:"initialize_seconds"`
	IndexSeconds      float64 `json:"index_seconds"` // until every record has been read
	FirstTickMS       float64 `json:"first_tick_ms"` // after that
	IdleTickMS        float64 `json:"idle_tick_ms"`  // the median of the next
	IdleTickReads     int     `json:"idle_tick_operations"`
	FirstStatusMS     float64 `json:"first_status_ms"`
	StatusMS          float64 `json:"status_ms"`     // the median of the next
	ListPageMS        float64 `json:"list_page_ms"`  // a thousand tenants somewhere in the list
	FleetPageMS       float64 `json:"fleet_page_ms"` // a hundred tenants, the next to be due first
	FleetSearchMS     float64 `json:"fleet_search_ms"`
	FleetPageReads    int     `json:"fleet_page_operations"` // of storage, for such a page
}

const times = 9 // that a thing is done for its median

// Measure runs the engine over so many tenants and writes the figures.
func Measure(ctx context.Context, tenants int, out io.Writer) error {
	s, err := New(ctx, tenants)
	if err != nil {
		return err
	}
	f := Figures{Tenants: tenants}
	began := time.Now()
	b, err := open(ctx, s)
	if err != nil {
		return err
	}
	defer b.Cleanup(ctx)
	f.InitializeSeconds = time.Since(began).Seconds()
	if err := check(ctx, b, s); err != nil {
		return err
	}
	if err := indexed(ctx, b, s); err != nil {
		return err
	}
	f.IndexSeconds = time.Since(began).Seconds()
	for _, measure := range []func(context.Context, logical.Backend, *Storage, *Figures) error{ticks, statuses, pages, parts} {
		if err := measure(ctx, b, s, &f); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(f)
}

// check makes sure that the engine takes what is made on demand for its own.
func check(ctx context.Context, b logical.Backend, s *Storage) error {
	id := s.id(uint32(s.size / 2)) // #nosec G115 -- a few millions
	t, err := request(ctx, b, s, logical.ReadOperation, "tenants/"+id, nil)
	if err != nil {
		return err
	}
	if t["tenant_id"] != id || t["state"] != "active" || t["next_rotation_at"] == nil {
		return errors.New("the engine does not know a tenant that is made on demand")
	}
	return nil
}

// indexed waits until the engine has read every record.
func indexed(ctx context.Context, b logical.Backend, s *Storage) error {
	for {
		st, err := request(ctx, b, s, logical.ReadOperation, "status", nil)
		if err != nil || st["index_complete"] == true {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// parts reads parts of the fleet, sorted and searched.
func parts(ctx context.Context, b logical.Backend, s *Storage, f *Figures) error {
	for _, what := range []struct {
		search string
		ms     *float64
	}{{"", &f.FleetPageMS}, {s.id(1)[:4], &f.FleetSearchMS}} {
		var took []float64
		for range times {
			before, _, _ := s.Operations()
			began := time.Now()
			part, err := request(ctx, b, s, logical.ReadOperation, "fleet", map[string]any{"search": what.search})
			if err != nil {
				return err
			}
			took = append(took, inMS(time.Since(began)))
			after, _, _ := s.Operations()
			if found, _ := part["tenants"].([]map[string]any); len(found) == 0 || what.search == "" && len(found) != 100 {
				return fmt.Errorf("the fleet shows %d tenants", len(found))
			}
			if what.search == "" {
				f.FleetPageReads = max(f.FleetPageReads, after-before)
			}
		}
		*what.ms = middle(took)
	}
	return nil
}

// ticks measures what Vault's tick sets off, until its answer and the last operation on storage.
func ticks(ctx context.Context, b logical.Backend, s *Storage, f *Figures) error {
	var took []float64
	for n := range times + 1 {
		before, _, _ := s.Operations()
		began := time.Now()
		if _, err := request(ctx, b, s, logical.RollbackOperation, "", nil); err != nil {
			return err
		}
		answered := time.Now()
		after, ended, err := s.rest(ctx)
		if err != nil {
			return err
		}
		if ended.Before(answered) { // it set off no operation behind its answer
			ended = answered
		}
		if n == 0 {
			f.FirstTickMS = inMS(ended.Sub(began))
			continue
		}
		took = append(took, inMS(ended.Sub(began)))
		f.IdleTickReads = after - before
	}
	f.IdleTickMS = middle(took)
	return nil
}

// rest waits until storage has not been used for a while.
func (s *Storage) rest(ctx context.Context) (count int, ended time.Time, err error) {
	const quiet = 150 * time.Millisecond
	for {
		count, idle, ended := s.Operations()
		if idle && time.Since(ended) > quiet {
			return count, ended, nil
		}
		select {
		case <-time.After(quiet / 10):
		case <-ctx.Done():
			return 0, time.Time{}, context.Cause(ctx)
		}
	}
}

func statuses(ctx context.Context, b logical.Backend, s *Storage, f *Figures) error {
	var took []float64
	for n := range times + 1 {
		began := time.Now()
		st, err := request(ctx, b, s, logical.ReadOperation, "status", nil)
		if err != nil {
			return err
		}
		if st["tenants"] != s.size || st["overdue"] != 0 {
			return fmt.Errorf("status shows %v tenants, %v of them overdue", st["tenants"], st["overdue"])
		}
		if n == 0 {
			f.FirstStatusMS = inMS(time.Since(began))
			continue
		}
		took = append(took, inMS(time.Since(began)))
	}
	f.StatusMS = middle(took)
	return nil
}

// pages reads the list of tenants by pages, from places all over it.
func pages(ctx context.Context, b logical.Backend, s *Storage, f *Figures) error {
	var took []float64
	for n := range times {
		after := s.id(uint32(n * s.size / times)) // #nosec G115 -- a few millions
		began := time.Now()
		list, err := request(ctx, b, s, logical.ListOperation, "tenants/", map[string]any{"after": after, "limit": 1000})
		if err != nil {
			return err
		}
		took = append(took, inMS(time.Since(began)))
		keys, _ := list["keys"].([]string)
		if len(keys) > 0 && (keys[0] <= after || !slices.IsSorted(keys)) {
			return errors.New("a page of the list of tenants is wrong")
		}
	}
	f.ListPageMS = middle(took)
	return nil
}

func inMS(d time.Duration) float64 { return d.Seconds() * 1000 }

func middle(samples []float64) float64 {
	slices.Sort(samples)
	return samples[len(samples)/2]
}
