// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// Holder is a place that keeps ciphertexts of a tenant.
type Holder struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	BackupsKept Duration `json:"backups_kept"`
	// OldestVersion and Counts are as last reported; nil and empty until then.
	OldestVersion *int             `json:"oldest_version"`
	Counts        map[string]int64 `json:"counts"` // by version
	ScanStartedAt *time.Time       `json:"scan_started_at"`
	ReportedAt    *time.Time       `json:"reported_at"`
	ReportedBy    *Person          `json:"reported_by"`
}

// HolderSettings are what a write of a holder changes: those that are not nil.
type HolderSettings struct {
	Description *string   `json:"description,omitempty"`
	BackupsKept *Duration `json:"backups_kept,omitempty"`
}

// HolderReport is what a place holds.
type HolderReport struct {
	// OldestVersion is the least version that is still held, the current one if nothing is.
	OldestVersion int
	Counts        map[int]int64 // of each version; nil: not counted
	// ScanStartedAt is what [Tenant.StartScan] answered before the place was searched. With
	// the zero value nothing is known to be gone by the report.
	ScanStartedAt time.Time
}

// Holders lists the names of the tenant's holders, sorted.
func (t *Tenant) Holders(ctx context.Context, p Page) ([]string, error) {
	return t.c.list(ctx, "list holders", t.path("/holders"), p)
}

// Holder reads a holder. It fails with [ErrNotFound], or [ErrName].
func (t *Tenant) Holder(ctx context.Context, name string) (*Holder, error) {
	return t.callHolder(ctx, "read holder", http.MethodGet, name, "", nil)
}

// WriteHolder names a holder, or changes what is said of it. It may be repeated.
func (t *Tenant) WriteHolder(ctx context.Context, name string, s HolderSettings) (*Holder, error) {
	return t.callHolder(ctx, "write holder", http.MethodPut, name, "", s)
}

// DeleteHolder says that nothing is held at a place any more. It is not repeated when its
// outcome is unknown: by then the name may be a new holder's.
func (t *Tenant) DeleteHolder(ctx context.Context, name string) error {
	path, err := t.holderPath(name, "")
	if err != nil {
		return err
	}
	return t.c.do(ctx, call{op: "delete holder", method: http.MethodDelete, path: path, repeat: ifRefused}, nil)
}

// StartScan returns the time with which to report what a search of the place finds that
// begins after the call. It may be repeated.
func (t *Tenant) StartScan(ctx context.Context, name string) (time.Time, error) {
	path, err := t.holderPath(name, "/report/start")
	if err != nil {
		return time.Time{}, err
	}
	var answer struct {
		ScanStartedAt time.Time `json:"scan_started_at"`
	}
	err = t.c.do(ctx, call{op: "start scan", method: http.MethodPut, path: path}, &answer)
	return answer.ScanStartedAt, err
}

// Report reports what a place holds. It may be repeated: the same report once more changes
// nothing.
func (t *Tenant) Report(ctx context.Context, name string, r HolderReport) (*Holder, error) {
	body := map[string]any{"oldest_version": r.OldestVersion}
	if r.Counts != nil {
		counts := make(map[string]int64, len(r.Counts))
		for version, n := range r.Counts {
			counts[strconv.Itoa(version)] = n
		}
		body["counts"] = counts
	}
	if !r.ScanStartedAt.IsZero() {
		body["scan_started_at"] = r.ScanStartedAt.UTC().Format(time.RFC3339Nano)
	}
	return t.callHolder(ctx, "report holdings", http.MethodPut, name, "/report", body)
}

// FollowHolders sets whether all places that keep ciphertexts are named, so that external
// keys go as the holders report. It may be repeated.
func (t *Tenant) FollowHolders(ctx context.Context, follow bool) error {
	return t.c.do(ctx, call{
		op: "configure key", method: http.MethodPut, path: t.path("/dek/config"), body: map[string]bool{"follow_holders": follow},
	}, nil)
}

func (t *Tenant) callHolder(ctx context.Context, op, method, name, rest string, body any) (*Holder, error) {
	path, err := t.holderPath(name, rest)
	if err != nil {
		return nil, err
	}
	h := new(Holder)
	err = t.c.do(ctx, call{op: op, method: method, path: path, body: body}, h)
	return orNil(h, err)
}

func (t *Tenant) holderPath(name, rest string) (string, error) {
	if err := checkItem(Secrets, name); err != nil { // names are as an item's
		return "", err
	}
	return t.path("/holders/" + name + rest), nil
}
