// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// A rotation while the table is swept leaves texts behind, which the count at the
// end finds.
func testCountAtTheEnd(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text)`)
	for i := range 50 {
		b.exec(`INSERT INTO t VALUES ($1, $2)`, i, b.seal(tenantID, "x", ""))
	}
	b.engine.Rotate(tenantID)
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	p := client.Progress{Scanned: 25, Rewrapped: 25, After: place{[]string{"24"}, "c"}.String()}
	text, err := json.Marshal(b.checkpointOf(p, &postgresOptions{table: "t", columns: []string{"c"}, tenant: tenantID}))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(checkpoint, text, 0o600))
	code, out, errs := b.rewrap("--table", "t", "--column", "c", "--tenant", tenantID, "--checkpoint", checkpoint)
	require.Equal(t, exitDone, code, errs)
	assert.Contains(t, out, "75 rewrapped, 25 current already", "those before the checkpoint too, which lied")
	assert.NoFileExists(t, checkpoint)
	var old int
	require.NoError(t, b.db.QueryRow(context.Background(), `SELECT count(*) FROM t WHERE c NOT LIKE 'dek:v2:%'`).Scan(&old))
	assert.Zero(t, old)
}

// The table reports as a holder of each tenant of which nothing is left, with a scan that
// began before the last count.
func testReport(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE cards (id int PRIMARY KEY, tenant uuid, c text)`)
	for i := range 40 {
		id := []string{tenantID, otherID}[i%2]
		b.exec(`INSERT INTO cards VALUES ($1, $2, $3)`, i, id, b.seal(id, "x", ""))
	}
	b.engine.CreateHolder(tenantID, "cards")
	b.engine.CreateHolder(tenantID, "orders")
	b.engine.CreateHolder(otherID, "cards")
	b.engine.Rotate(tenantID)
	b.engine.Rotate(otherID)
	b.exec(`UPDATE cards SET c = 'nonsense' WHERE id = 1`) // of the other tenant
	args := []string{"--table", "cards", "--column", "c", "--tenant-column", "tenant"}

	code, _, errs := b.rewrap(append(args, "--no-report")...)
	require.Equal(t, exitRefused, code, errs)
	code, _, errs = b.rewrap(append(args, "--dry-run")...)
	require.Equal(t, exitRefused, code, errs)
	require.Nil(t, b.engine.Report(tenantID, "cards"))

	code, out, errs := b.rewrap(append(args, "-json")...)
	require.Equal(t, exitRefused, code, errs)
	assert.Contains(t, out, `{"count":20,"event":"reported","holder":"cards","oldest_version":2,"tenant":"`+tenantID+`"}`)
	report := b.engine.Report(tenantID, "cards")
	assert.Equal(t, []any{2.0, map[string]any{"2": 20.0}}, []any{report["oldest_version"], report["counts"]})
	assert.NotEmpty(t, report["scan_started_at"])
	assert.Nil(t, b.engine.Report(otherID, "cards"), "a text of another version is left")
	assert.Contains(t, errs, "nothing is reported for tenant "+otherID)

	one := []string{"--table", "cards", "--column", "c", "--tenant", tenantID, "--holder"}
	b.exec(`DELETE FROM cards`)
	code, _, errs = b.rewrap(append(one, "orders")...)
	require.Equal(t, exitDone, code, errs)
	assert.Equal(t, 2.0, b.engine.Report(tenantID, "orders")["oldest_version"], "nothing is held at all")
	code, _, errs = b.rewrap(append(one, "unknown")...)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "holder not found")
	code, _, errs = b.rewrap(append(one, "orders", "--no-report")...)
	assert.Equal(t, exitUsage, code, errs)
}

func (b *bench) checkpointOf(p client.Progress, o *postgresOptions) checkpoint[client.Progress] {
	b.t.Helper()
	t, err := describe(b.t.Context(), b.db, o)
	require.NoError(b.t, err)
	return checkpoint[client.Progress]{Job: o.job(t), Progress: p}
}
