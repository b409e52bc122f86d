// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math"
)

// figure is one line of the output.
type figure struct {
	name string
	unit string
	goal goal
}

// section measures figures that belong together, so that both sides of a ratio
// are taken in turns.
type section struct {
	figures []figure
	measure func(context.Context, *bench) error
}

// goal is a bound on a figure; the zero value is none.
type goal struct {
	bound   float64
	atMost  bool
	present bool
}

func atLeast(bound float64) goal { return goal{bound: bound, present: true} }
func atMost(bound float64) goal  { return goal{bound: bound, atMost: true, present: true} }

func (g goal) met(value float64) bool {
	switch {
	case !g.present:
		return true
	case math.IsNaN(value):
		return false
	case g.atMost:
		return value <= g.bound
	default:
		return value >= g.bound
	}
}

func (g goal) String() string {
	switch {
	case !g.present:
		return ""
	case g.atMost:
		return fmt.Sprintf("at most %g", g.bound)
	default:
		return fmt.Sprintf("at least %g", g.bound)
	}
}

// Units of figures. A ratio is above 1 where the engine is the better side.
const (
	itemsPerSecond     = "items/s"
	pagesPerSecond     = "pages/s"
	requestsPerSecond  = "requests/s"
	rotationsPerSecond = "rotations/s"
	messagesPerSecond  = "messages/s"
	rowsPerSecond      = "rows/s"
	megabytesPerSecond = "MB/s"
	ratioUnit          = "ratio"
	milliseconds       = "ms"
	seconds            = "s"
	megabytes          = "MB"
)

// sections is the table of all figures, the most important first. What restarts
// Vault comes last.
var sections = []section{
	{measure: rotate20k, figures: []figure{
		{"rotate_items_per_second_20k", itemsPerSecond, goal{}},
	}},
	{measure: rotateVersusFloor, figures: []figure{
		{"rotate_items_per_second", itemsPerSecond, goal{}},
		{"rotate_pages_per_second", pagesPerSecond, goal{}},
		{"floor_pages_per_second", pagesPerSecond, goal{}},
		{"floor_rewrite_pages_per_second", pagesPerSecond, goal{}},
		{"ratio_rotate_vs_floor", ratioUnit, atLeast(0.8)},
		{"ratio_rotate_vs_rewrite_floor", ratioUnit, goal{}},
	}},
	{measure: rotateVersusPeer, figures: []figure{
		{"peer_items_per_second", itemsPerSecond, goal{}},
		{"ratio_rotate_vs_peer", ratioUnit, atLeast(100)},
	}},
	{measure: rotateCalls, figures: []figure{
		{"rotate_call_p50_ms", milliseconds, goal{}},
		{"rotate_call_p99_ms", milliseconds, atMost(50)},
	}},
	{measure: itemReads, figures: []figure{
		{"read_requests_per_second", requestsPerSecond, goal{}},
		{"noop_read_requests_per_second", requestsPerSecond, goal{}},
		{"ratio_read_vs_noop", ratioUnit, atLeast(0.7)},
	}},
	{measure: itemWrites, figures: []figure{
		{"write_requests_per_second", requestsPerSecond, goal{}},
		{"write_small_requests_per_second", requestsPerSecond, goal{}},
		{"kv2_write_requests_per_second", requestsPerSecond, goal{}},
		{"floor_write_requests_per_second", requestsPerSecond, goal{}},
		{"ratio_write_vs_kv2", ratioUnit, atLeast(1)},
		{"ratio_write_small_vs_kv2", ratioUnit, atLeast(1)},
		{"ratio_write_vs_floor", ratioUnit, goal{}},
		{"ratio_floor_write_vs_kv2", ratioUnit, goal{}},
		{"ratio_floor_page_write_vs_kv2", ratioUnit, goal{}},
		{"ratio_floor_small_write_vs_kv2", ratioUnit, goal{}},
	}},
	{measure: bulkWrites, figures: []figure{
		{"bulk_write_items_per_second", itemsPerSecond, goal{}},
		{"ratio_bulk_write_vs_kv2", ratioUnit, atLeast(20)},
		{"bulk_write_full_items_per_second", itemsPerSecond, goal{}},
	}},
	{measure: encrypts, figures: []figure{
		{"encrypt_requests_per_second", requestsPerSecond, goal{}},
		{"ratio_encrypt_vs_noop", ratioUnit, atLeast(0.9)},
		{"ratio_encrypt_vs_transit", ratioUnit, goal{}},
	}},
	{measure: encryptBatches, figures: []figure{
		{"encrypt_batch_requests_per_second", requestsPerSecond, goal{}},
		{"ratio_encrypt_batch_vs_noop", ratioUnit, atLeast(0.9)},
		{"ratio_encrypt_batch_vs_transit", ratioUnit, goal{}},
	}},
	{measure: clientEncrypts, figures: []figure{
		{"client_encrypts_per_second", messagesPerSecond, goal{}},
		{"ratio_client_encrypt_vs_transit", ratioUnit, atLeast(100)},
		{"ratio_client_encrypt_vs_aead", ratioUnit, atLeast(0.7)},
	}},
	{measure: fileStreams, figures: []figure{
		{"file_megabytes_per_second", megabytesPerSecond, goal{}},
		{"ratio_file_vs_tink", ratioUnit, atLeast(0.9)},
	}},
	{measure: rewrapRows, figures: []figure{
		{"rewrap_rows_per_second", rowsPerSecond, atLeast(20_000)},
		{"rewrap_engine_rows_per_second", rowsPerSecond, goal{}},
		{"update_rows_per_second", rowsPerSecond, goal{}},
		{"ratio_rewrap_vs_transit_batch", ratioUnit, atLeast(1.5)},
		{"ratio_rewrap_vs_transit_batch_pipelined", ratioUnit, goal{}},
		{"ratio_rewrap_vs_transit_single", ratioUnit, atLeast(10)},
		{"ratio_rewrap_vs_transit_row_by_row", ratioUnit, atLeast(10)},
		{"ratio_rewrap_vs_update", ratioUnit, atLeast(0.6)},
		{"ratio_rewrap_engine_vs_transit_batch", ratioUnit, goal{}},
	}},
	{measure: leasedReads, figures: []figure{
		{"read_leased_requests_per_second", requestsPerSecond, goal{}},
		{"ratio_read_leased_vs_built_in", ratioUnit, atLeast(0.97)},
	}},
	{measure: providerHanging, figures: []figure{
		{"read_p99_provider_hanging_ms", milliseconds, goal{}},
		{"write_p99_provider_hanging_ms", milliseconds, goal{}},
		{"ratio_read_p99_provider_hanging", ratioUnit, atLeast(0.9)},
		{"ratio_write_p99_provider_hanging", ratioUnit, atLeast(0.9)},
	}},
	{measure: proxyStatus, figures: []figure{
		{"proxy_status_requests_per_second", requestsPerSecond, goal{}},
		{"ratio_proxy_vs_vault", ratioUnit, atLeast(0.7)},
	}},
	{measure: rotateFleet, figures: []figure{
		{"fleet_rotations_per_second", rotationsPerSecond, atLeast(300)},
		{"fleet_read_p99_ms", milliseconds, goal{}},
	}},
	{measure: manyTenants, figures: []figure{
		{"fleet_read_any_vs_kv2", ratioUnit, atLeast(0.7)},
		{"fleet_write_any_vs_kv2", ratioUnit, atLeast(1)},
		{"fleet_encrypt_any_vs_transit", ratioUnit, goal{}},
		{"fleet_create_vs_kv2", ratioUnit, atLeast(0.5)},
		{"fleet_read_any_vs_noop", ratioUnit, atLeast(0.9)},
		{"fleet_encrypt_any_vs_noop", ratioUnit, atLeast(0.9)},
		{"fleet_create_vs_floor", ratioUnit, goal{}},
		{"ratio_floor_create_vs_kv2", ratioUnit, goal{}},
		{"ratio_noop_any_vs_kv2", ratioUnit, goal{}},
		{"ratio_read_any_exempt", ratioUnit, goal{}},
		{"fleet_read_any_exempt_vs_kv2", ratioUnit, goal{}},
		{"fleet_reads_per_second", requestsPerSecond, goal{}},
		{"fleet_writes_per_second", requestsPerSecond, goal{}},
		{"fleet_encrypts_per_second", requestsPerSecond, goal{}},
		{"fleet_creates_per_second", requestsPerSecond, goal{}},
		{"fleet_cold_reads_per_second", requestsPerSecond, goal{}},
		{"fleet_cold_read_p99_ms", milliseconds, goal{}},
		{"fleet_cold_writes_per_second", requestsPerSecond, goal{}},
		{"fleet_cold_encrypts_per_second", requestsPerSecond, goal{}},
	}},
	{measure: fleetOfAMillion, figures: []figure{
		{"scheduler_idle_tick_ms", milliseconds, atMost(50)},
		{"fleet_rss_mb", megabytes, atMost(300)},
		{"initialize_seconds", seconds, atMost(2)},
		{"status_ms", milliseconds, atMost(200)},
		{"tenants_page_ms", milliseconds, goal{}},
		{"fleet_page_ms", milliseconds, goal{}},
		{"fleet_search_ms", milliseconds, goal{}},
	}},
	{measure: pageOfAMillion, figures: []figure{
		{"fleet_page_first_paint_ms", milliseconds, atMost(1000)},
	}},
	{measure: rotateMillion, figures: []figure{
		{"bulk_million_items_per_second", itemsPerSecond, atLeast(10_000)},
		{"rotate_million_seconds", seconds, atMost(15)},
		{"rotate_million_rss_mb", megabytes, atMost(300)},
		{"ratio_million_cost_per_item", ratioUnit, atMost(1.2)},
		{"read_p99_idle_ms", milliseconds, goal{}},
		{"read_p99_rotating_ms", milliseconds, atMost(25)},
		{"ratio_rotate_loaded_vs_unloaded", ratioUnit, atLeast(0.75)},
		{"rotate_call_cold_million_ms", milliseconds, atMost(4000)},
	}},
}

// list prints the table.
func list(w io.Writer) {
	for _, s := range sections {
		for _, f := range s.figures {
			_, _ = fmt.Fprintf(w, "%-36s %-10s %s\n", f.name, f.unit, f.goal)
		}
	}
}
