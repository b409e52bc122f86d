// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package metrics

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
)

// maxProviders bounds the providers that have series of their own: each tenant's owner may
// have one. All of them are counted by state.
const maxProviders = 100

// providers adds the figures of key providers. It leaves them out if the providers cannot
// be listed.
func (r *Rooms) providers(ctx context.Context, o *observation, now time.Time) {
	names, err := r.Providers.Names(ctx)
	if err != nil {
		r.Log().Error("metrics are without those of key providers", "error", err)
		return
	}
	slices.Sort(names)
	states := r.Providers.States()
	byState := map[string]int{provider.StateOK: 0, provider.StateUnavailable: 0, provider.StateDenied: 0}
	for _, name := range names {
		byState[states[name].Current()]++
	}
	for state, n := range byState {
		o.gauge("dek_providers", "Key providers, by what the latest call came to: ok, unavailable, denied.", float64(n), label{"state", state})
	}
	o.gauge("dek_provider_waiting_requests", "Requests that wait for a key provider to open a key-encryption key.", float64(r.Keys.Waiting()))
	leases := r.Keys.Leases()
	for _, name := range names[:min(len(names), maxProviders)] {
		at := label{"provider", name}
		for state := range byState {
			o.gauge("dek_provider_state", "1 for the state that the provider is in, 0 for the others.",
				truth(state == states[name].Current()), at, label{"state", state})
		}
		o.calls(r.Providers.Figures(name), at)
		l := leases[name]
		o.gauge("dek_provider_leases", "Key-encryption keys under the provider that are open.", float64(l.Open), at)
		if l.Open > 0 {
			o.gauge("dek_provider_lease_seconds", "Time until the first of them is to be opened anew. Missing if none is open.",
				max(l.Ends.Sub(now).Seconds(), 0), at)
		}
	}
}

func (o *observation) calls(f provider.Figures, at label) {
	for result, n := range map[string]int64{
		provider.StateOK: f.OK, provider.StateDenied: f.Denied, provider.StateUnavailable: f.Unavailable, provider.ResultBusy: f.Busy,
	} {
		o.counter("dek_provider_calls_total", "Calls to the provider, by result. Busy: there was no place for the call, and it was not made.",
			n, at, label{"result", result})
	}
	buckets := map[float64]uint64{}
	for i, bound := range provider.DurationBounds() {
		buckets[bound.Seconds()] = uint64(f.Took.Buckets[i]) // #nosec G115 -- counts
	}
	o.samples = append(o.samples, prometheus.MustNewConstHistogram(
		prometheus.NewDesc("dek_provider_call_duration_seconds", "Time that calls to the provider took.", []string{at.name}, nil),
		uint64(f.Took.Count), f.Took.Sum.Seconds(), buckets, at.value)) // #nosec G115 -- a count
}
