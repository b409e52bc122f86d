// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package metrics

import (
	"context"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
)

// observation is what the rooms have counted up to one moment. It is a
// [prometheus.Collector].
type observation struct {
	samples []prometheus.Metric
}

// Describe is for the registry: what is collected describes itself.
func (o *observation) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(o, descs) }

// Collect hands over what was observed.
func (o *observation) Collect(metrics chan<- prometheus.Metric) {
	for _, s := range o.samples {
		metrics <- s
	}
}

// label is a label and its value.
type label struct{ name, value string }

func (o *observation) add(kind prometheus.ValueType, name, help string, value float64, labels ...label) {
	names, values := make([]string, len(labels)), make([]string, len(labels))
	for i, l := range labels {
		names[i], values[i] = l.name, l.value
	}
	o.samples = append(o.samples, prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...))
}

// gauge adds what goes up and down, counter what only grows until the plugin starts anew.
func (o *observation) gauge(name, help string, value float64, labels ...label) {
	o.add(prometheus.GaugeValue, name, help, value, labels...)
}

func (o *observation) counter(name, help string, value int64, labels ...label) {
	o.add(prometheus.CounterValue, name, help, float64(value), labels...)
}

func (r *Rooms) observe(ctx context.Context) (*observation, error) {
	s, err := r.Schedule().Status(ctx)
	if err != nil {
		return nil, err
	}
	o := &observation{}
	o.gauge("dek_build_info", "Always 1: the labels say what runs.", 1,
		label{"version", r.Version}, label{"commit", r.Commit}, label{"goversion", runtime.Version()})
	o.fleet(s)
	r.rotations(o, s)
	r.texts(o)
	r.caches(o)
	r.kek(ctx, o)
	r.providers(ctx, o, s.AsOf)
	r.holders(o)
	o.gauge("dek_evidence_entries", "Entries of the evidence log; 0 until it is open.", float64(r.Ledger().Size()))
	o.gauge("dek_evidence_pending", "Events that wait for the evidence log.", float64(r.Ledger().Pending()))
	return o, nil
}

func (o *observation) fleet(s schedule.Status) {
	o.gauge("dek_tenants", "Tenants, those being deleted included.", float64(s.Tenants))
	o.gauge("dek_index_complete", "1 once every record has been read since the start. Until then counts of tenants are lower bounds.", truth(s.Complete))
	o.counter("dek_index_records_read_total", "Records that the schedule has read.", int64(s.Read))
	const help = "Tenants by what needs attention: overdue, failed (the latest rotation), paused, paused_overdue, blocked, due_within_7d."
	for state, n := range map[string]int{
		"overdue": s.Overdue, "failed": s.Failed, "paused": s.Paused, "paused_overdue": s.PausedOverdue, "blocked": s.Blocked, "due_within_7d": s.DueWithin7Days,
	} {
		o.gauge("dek_tenants_by_state", help, float64(n), label{"state", state})
	}
	damaged := 0
	for _, n := range s.Damaged {
		damaged += n
	}
	o.gauge("dek_damaged_entries", "Entries of storage that were found not to be readable.", float64(damaged))
	o.gauge("dek_oldest_key_age_seconds", "Age of the oldest active key; 0 without tenants.", s.OldestKeyAge.Seconds())
	if !s.LastRun.IsZero() {
		o.gauge("dek_scheduler_lag_seconds", "Time since the schedule last looked for what is due. Missing until it has.", s.AsOf.Sub(s.LastRun).Seconds())
	}
}

func (r *Rooms) rotations(o *observation, s schedule.Status) {
	o.gauge("dek_rotations_unfinished", "Rotations that have not ended.", float64(s.Unfinished))
	counts := r.Rotations().Counts()
	o.counter("dek_rotations_started_total", "Rotations started.", counts.Started)
	for status, n := range map[string]int64{"completed": counts.Completed, "rolled_back": counts.RolledBack, "failed": counts.Failed} {
		o.counter("dek_rotations_ended_total", "Rotations ended, by status.", n, label{"status", status})
	}
	pages, items := r.Items.Reencrypted()
	o.counter("dek_pages_reencrypted_total", "Pages that rotations have encrypted again.", pages)
	o.counter("dek_items_reencrypted_total", "Items on those pages.", items)
}

func (r *Rooms) holders(o *observation) {
	counts := r.Holders().Counts()
	const help = "Reports of holders of ciphertexts, by result."
	o.counter("dek_holder_reports_total", help, counts.Reports, label{"result", "taken"})
	o.counter("dek_holder_reports_total", help, counts.Refused, label{"result", "refused"})
	o.counter("dek_external_keys_destroyed_total", "External keys destroyed since all holders had reported their version gone.", counts.Destroyed)
}

func (r *Rooms) texts(o *observation) {
	for path, n := range r.Encryption.Counts() {
		at := label{"path", path}
		o.counter("dek_texts_sealed_total", "Texts and data keys sealed for callers, by path.", n.Sealed, at)
		o.counter("dek_texts_opened_total", "Texts opened for callers, by path.", n.Opened, at)
		o.counter("dek_texts_refused_total", "Texts refused, by path.", n.Refused, at)
	}
}

func (r *Rooms) caches(o *observation) {
	for cache, lookups := range map[string]func() (hits, misses int64){
		"pages": r.Items.CacheLookups, "records": r.Tenants.CacheLookups, "keys": r.Keys.CacheLookups,
	} {
		hits, misses := lookups()
		for result, n := range map[string]int64{"hit": hits, "miss": misses} {
			o.counter("dek_cache_lookups_total", "Lookups in caches, by cache and result.", n, label{"cache", cache}, label{"result", result})
		}
	}
}

// kek leaves its figures out if the record of the key-encryption key cannot be read, or
// there is none.
func (r *Rooms) kek(ctx context.Context, o *observation) {
	age, err := r.KEK().Age(ctx)
	if err != nil {
		r.Log().Error("metrics are without those of the key-encryption key", "error", err)
		return
	}
	if age.Since.IsZero() {
		return
	}
	o.gauge("dek_kek_age_seconds", "Age of the key-encryption key.", age.Age.Seconds())
	o.gauge("dek_kek_overdue", "1 if it is older than it may get.", truth(age.Overdue))
	rotating, err := r.KEK().Rotating(ctx)
	if err == nil {
		o.gauge("dek_kek_rotating", "1 while a rotation of it is unfinished.", truth(rotating))
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
