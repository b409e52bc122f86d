// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/report"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

var keep = flag.String("keep", "", "a file to write a page to, to look at it")

func make1(t testing.TB, log *evidencetest.Log, change func(*report.Options)) *report.Report {
	t.Helper()
	source := verify.FS(log.Files(t))
	return makeFrom(t, log, source, change)
}

func makeFrom(t testing.TB, log *evidencetest.Log, source verify.Source, change func(*report.Options)) *report.Report {
	t.Helper()
	result, err := verify.Log(t.Context(), source, verify.Options{VKeys: []string{log.VKey()}, Now: evidencetest.GoodUntil})
	require.NoError(t, err)
	prover, err := verify.NewProver(t.Context(), source, result)
	require.NoError(t, err)
	options := report.Options{
		From: evidencetest.Begin, To: evidencetest.GoodUntil, Now: evidencetest.GoodUntil, Proof: prover.Proof,
	}
	if change != nil {
		change(&options)
	}
	r, err := report.New(result, options)
	require.NoError(t, err)
	return r
}

func TestReport(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	r := make1(t, log, nil)
	require.Empty(t, r.Broken)
	require.Len(t, r.Tenants, 3)
	require.Equal(t, 12, r.Rotated())
	first := r.Tenants[0]
	require.EqualValues(t, 90*24*3600, first.Interval)
	require.EqualValues(t, 5, first.ActiveVersion)
	require.EqualValues(t, 60*24*3600, first.KeyAge)
	require.Len(t, first.Rotations, 4)
	require.Len(t, first.Destroyed, 4)
	for _, rotation := range first.Rotations {
		require.Zero(t, rotation.PagesLeft)
		index, c, err := evidence.OpenProof(rotation.Proof, log.Leaves[rotation.Entry], verifierKeys(t, log)...)
		require.NoError(t, err)
		require.Equal(t, rotation.Entry, index)
		require.EqualValues(t, len(log.Leaves), c.N)
	}
	require.Len(t, r.Erasures, 1)
	erasure := r.Erasures[0]
	require.EqualValues(t, 5, erasure.Versions)
	require.Len(t, erasure.Keys, 6) // five page keys and the placement key
	require.Contains(t, erasure.Method, "SP 800-88r2")
	require.NotEmpty(t, erasure.Proof)
	ids := map[string]bool{}
	for _, c := range r.Controls {
		ids[c.Standard+" "+c.ID] = true
	}
	for _, id := range []string{
		"PCI DSS 4.0.1 3.7.4", "PCI DSS 4.0.1 3.7.5", "SOC 2 CC6.1", "ISO/IEC 27001:2022 A.8.24", "NIST SP 800-88r2",
	} {
		require.True(t, ids[id], id)
	}
}

func verifierKeys(t *testing.T, log *evidencetest.Log) []string {
	t.Helper()
	return strings.Fields(string(log.Files(t)["keys"].Data))
}

func TestReportIsOfItsTimeAndTenant(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	quarter := make1(t, log, func(o *report.Options) {
		o.From, o.To = evidencetest.Begin.Add(70*evidencetest.Day), evidencetest.Begin.Add(100*evidencetest.Day)
	})
	require.Len(t, quarter.Tenants, 3)
	require.Equal(t, 3, quarter.Rotated())
	require.Equal(t, 3, quarter.DestroyedKeys())
	require.Empty(t, quarter.Erasures)
	before := make1(t, log, func(o *report.Options) {
		o.From, o.To = evidencetest.Begin.Add(-9*evidencetest.Day), evidencetest.Begin
	})
	require.Empty(t, before.Tenants)
	one := make1(t, log, func(o *report.Options) { o.TenantID = evidencetest.ID(2) })
	require.Len(t, one.Tenants, 1)
	require.Len(t, one.Erasures, 1)
	after := make1(t, log, func(o *report.Options) { o.From = evidencetest.GoodUntil.Add(-time.Hour) })
	require.Len(t, after.Tenants, 2, "a shredded tenant is no more")
}

func TestFormats(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	s := evidencetest.Story{T: t, Log: log}
	s.Create(50, evidencetest.Begin) // never rotated
	r := make1(t, log, nil)
	require.NotEmpty(t, r.Broken)

	var page bytes.Buffer
	require.NoError(t, r.WriteHTML(&page))
	for _, text := range []string{
		"<!DOCTYPE html>", "Certificate of erasure", "has been active for 380 days", "c2sp.org/tlog-proof@v1", r.Log.RootHash,
		evidencetest.ID(1), "3.7.4", "CC6.1", "A.8.24",
	} {
		require.Contains(t, strings.ReplaceAll(page.String(), "&#43;", "+"), text)
	}
	for _, text := range []string{"<script", "http://", "src=", "href="} {
		require.NotContains(t, page.String(), text)
	}
	if *keep != "" {
		require.NoError(t, os.WriteFile(*keep, page.Bytes(), 0o600))
	}

	var table bytes.Buffer
	require.NoError(t, r.WriteCSV(&table))
	lines, err := csv.NewReader(&table).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+4+12+14+1+1)

	var object bytes.Buffer
	require.NoError(t, r.WriteJSON(&object))
	var decoded report.Report
	require.NoError(t, json.Unmarshal(object.Bytes(), &decoded))
	require.Equal(t, r, &decoded)
}

// What a person's ID says is text, whatever it holds.
func TestTextIsNoMarkup(t *testing.T) {
	log := evidencetest.NewLog(1)
	s := evidencetest.Story{T: t, Log: log}
	s.Start()
	s.Create(0, evidencetest.Begin)
	log.Add(t, evidence.Event{
		Head: evidence.Head{
			Time: evidencetest.Begin, TenantID: evidencetest.ID(0), Incarnation: evidencetest.ID(0),
			Actor: "=<script>alert(1)</script>",
		},
		Detail: &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)},
	})
	r := make1(t, log, nil)
	var page, table bytes.Buffer
	require.NoError(t, r.WriteHTML(&page))
	require.NotContains(t, page.String(), "<script>")
	require.NoError(t, r.WriteCSV(&table))
	require.Contains(t, table.String(), "'=<script>")
}

// A report of 1,000 tenants has all of them. BenchmarkReport says how long one takes.
func TestLargeReport(t *testing.T) {
	log := evidencetest.GoodStory(t, 1000)
	source := verify.FS(log.Files(t))
	begin := time.Now()
	r := makeFrom(t, log, source, nil)
	var page bytes.Buffer
	require.NoError(t, r.WriteHTML(&page))
	require.Len(t, r.Tenants, 1000)
	t.Logf("1,000 tenants, %d entries, verified and reported with all proofs: %s", len(log.Leaves), time.Since(begin))
}

func BenchmarkReport(b *testing.B) {
	log := evidencetest.GoodStory(b, 1000)
	source := verify.FS(log.Files(b))
	result, err := verify.Log(b.Context(), source, verify.Options{VKeys: []string{log.VKey()}, Now: evidencetest.GoodUntil})
	require.NoError(b, err)
	for b.Loop() {
		prover, err := verify.NewProver(b.Context(), source, result)
		require.NoError(b, err)
		r, err := report.New(result, report.Options{
			From: evidencetest.Begin, To: evidencetest.GoodUntil, Now: evidencetest.GoodUntil, Proof: prover.Proof,
		})
		require.NoError(b, err)
		var page bytes.Buffer
		require.NoError(b, r.WriteHTML(&page))
	}
}
