// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"
)

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

var csvHeader = []string{
	"record", "tenant_id", "incarnation", "time", "ended_at", "status", "previous_version", "new_version",
	"previous_key_id", "new_key_id", "key_id", "which", "why", "actor", "trigger", "pages_left", "late_seconds",
	"rotation_interval_seconds", "key_age_seconds", "entry",
}

// WriteCSV writes one line for each tenant, rotation, destroyed key, erasure and finding.
// A text that a spreadsheet would take for a formula begins with an apostrophe.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	write := func(fields map[string]string) {
		line := make([]string, len(csvHeader))
		for i, name := range csvHeader {
			line[i] = harmless(fields[name])
		}
		_ = out.Write(line) // the error is that of Flush
	}
	_ = out.Write(csvHeader)
	for _, t := range r.Tenants {
		about := func(fields map[string]string) {
			fields["tenant_id"], fields["incarnation"] = t.TenantID, t.Incarnation
			write(fields)
		}
		about(map[string]string{
			"record": "tenant", "time": timeOf(t.CreatedAt), "status": t.State, "new_version": number(t.ActiveVersion),
			"rotation_interval_seconds": number(t.Interval), "key_age_seconds": number(t.KeyAge),
		})
		for _, rotation := range t.Rotations {
			about(rotationFields(&rotation))
		}
		for _, key := range t.Destroyed {
			about(keyFields(&key))
		}
	}
	for _, e := range r.Erasures {
		write(map[string]string{
			"record": "erasure", "tenant_id": e.TenantID, "incarnation": e.Incarnation, "time": timeOf(&e.ShreddedAt),
			"actor": e.Actor, "new_version": number(e.Versions), "entry": number(e.Entry),
		})
	}
	for _, f := range r.Broken {
		write(map[string]string{
			"record": "finding", "tenant_id": f.TenantID, "status": f.Code, "why": f.Text, "entry": number(f.Index),
		})
	}
	out.Flush()
	return out.Error()
}

func rotationFields(r *Rotation) map[string]string {
	return map[string]string{
		"record": "rotation", "time": timeOf(&r.StartedAt), "ended_at": timeOf(r.EndedAt), "status": r.Status,
		"previous_version": number(r.PreviousVersion), "new_version": number(r.NewVersion),
		"previous_key_id": r.PreviousKeyID, "new_key_id": r.NewKeyID, "actor": r.Actor, "trigger": r.Trigger,
		"pages_left": number(r.PagesLeft), "late_seconds": number(r.Late), "entry": number(r.Entry),
	}
}

func keyFields(k *Key) map[string]string {
	return map[string]string{
		"record": "destruction", "time": timeOf(&k.DestroyedAt), "previous_version": number(k.Version), "key_id": k.KeyID,
		"which": k.Which, "why": k.Why, "actor": k.Actor, "pages_left": number(k.PagesLeft), "entry": number(k.Entry),
	}
}

// harmless keeps a spreadsheet from running a text.
func harmless(text string) string {
	if text != "" && strings.ContainsAny(text[:1], "=+@\t\r") || strings.HasPrefix(text, "-") && text != "-1" {
		return "'" + text
	}
	return text
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func timeOf(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
