// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/formats/proof"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/report"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

const (
	// reportMost is how many entries the page makes a report of. It reads them all.
	reportMost = 100_000
	dayForm    = "2006-01-02"
)

// logSource reads the log with the person's token.
type logSource struct{ v *visit }

// Read implements verify.Source.
func (s logSource) Read(ctx context.Context, name string) ([]byte, error) {
	switch {
	case name == verify.FileKeys:
		var key struct {
			VKey     string   `json:"vkey"`
			Previous []string `json:"previous"`
		}
		if err := s.get(ctx, "evidence/key", nil, &key); err != nil {
			return nil, err
		}
		return []byte(strings.Join(append([]string{key.VKey}, key.Previous...), "\n") + "\n"), nil
	case name == verify.FileCheckpoint, strings.HasPrefix(name, "tile/"):
		raw, err := s.v.session.account.Raw(ctx, "evidence/tlog/"+name)
		if isAbsent(err) {
			return nil, fs.ErrNotExist
		}
		return raw, err
	case strings.HasPrefix(name, "checkpoints/"):
		return s.checkpointOf(ctx, strings.TrimPrefix(name, "checkpoints/"))
	default:
		return nil, fs.ErrNotExist
	}
}

func (s logSource) get(ctx context.Context, path string, query url.Values, out any) error {
	raw, err := s.v.session.account.Do(ctx, vault.Request{Method: http.MethodGet, Path: path, Query: query})
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

// checkpointOf reads the signed note of a size: it stands in the proof of its last entry.
func (s logSource) checkpointOf(ctx context.Context, size string) ([]byte, error) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 1 {
		return nil, fs.ErrNotExist
	}
	var e entryAnswer
	query := url.Values{"size": {size}}
	if err := s.get(ctx, "evidence/entries/"+strconv.FormatInt(n-1, 10), query, &e); err != nil {
		if isAbsent(err) {
			return nil, fs.ErrNotExist
		}
		return nil, err
	}
	var p proof.TLogProof
	if err := p.Unmarshal([]byte(e.Proof)); err != nil {
		return nil, &Refusal{Status: http.StatusBadGateway, Reason: text("error.answer")}
	}
	return p.Checkpoint, nil
}

type reportPage struct {
	From, To, TenantID string // first and last day
	Report             *report.Report
	Problem            string
}

// report is GET /ui/evidence/report.
func (s *site) report(v *visit) error {
	if err := v.require("evidence/tlog/checkpoint", "read"); err != nil {
		return err
	}
	now := s.views.now().UTC()
	asked := v.r.URL.Query()
	data := &reportPage{
		From: now.AddDate(0, -3, 0).Format(dayForm), To: now.Format(dayForm),
		TenantID: strings.ToLower(strings.TrimSpace(asked.Get("tenant"))),
	}
	if !asked.Has("from") {
		return v.show("report", text("report.title"), data)
	}
	data.From, data.To = asked.Get("from"), asked.Get("to")
	from, errFrom := time.Parse(dayForm, data.From)
	to, errTo := time.Parse(dayForm, data.To)
	if errFrom != nil || errTo != nil || to.Before(from) || (data.TenantID != "" && !uuidForm.MatchString(data.TenantID)) {
		data.Problem = text("report.invalid")
		return v.show("report", text("report.title"), data)
	}
	var present checkpoint
	if err := v.get("evidence/checkpoint", nil, &present); err != nil {
		return err
	}
	if present.Size > reportMost {
		data.Problem = text("report.too-large", reportMost)
		return v.show("report", text("report.title"), data)
	}
	result, err := verify.Log(v.r.Context(), logSource{v}, verify.Options{Now: now})
	if err != nil {
		return err
	}
	data.Report, err = report.New(result, report.Options{From: from, To: to.AddDate(0, 0, 1), TenantID: data.TenantID, Now: now})
	if err != nil {
		return err
	}
	return v.show("report", text("report.title"), data)
}
