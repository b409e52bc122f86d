// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import "github.com/hashicorp/vault/sdk/logical"

// HolderPath is the path of a holder of the tenant.
func HolderPath(name string) string { return TenantPath("/holders/" + name) }

// Hold names a holder.
func (w *Oracle) Hold(name string) {
	w.Do(Update, HolderPath(name), nil, func(*Oracle, *logical.Response) {})
}

// Follow sets whether external keys go as the holders report.
func (w *Oracle) Follow(follow bool) {
	w.Do(Update, TenantPath("/dek/config"), map[string]any{"follow_holders": follow}, func(*Oracle, *logical.Response) {})
}

// ReportGone lets a holder report, after a scan that begins now, that it holds nothing
// below a version. What was sealed below may be destroyed from then on.
func (w *Oracle) ReportGone(name string, oldest int) {
	for version := 1; version < oldest; version++ {
		w.External.Mark(version, true)
	}
	w.Do(Update, HolderPath(name)+"/report/start", nil, func(w *Oracle, resp *logical.Response) {
		w.Do(Update, HolderPath(name)+"/report", map[string]any{
			"oldest_version": oldest, "scan_started_at": resp.Data["scan_started_at"],
		}, func(*Oracle, *logical.Response) {})
	})
}
