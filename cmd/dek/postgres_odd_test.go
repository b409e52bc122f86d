// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// atVersion is how many texts of a column are of a version.
func (b *bench) atVersion(table, column string, version int) (n int) {
	b.t.Helper()
	query := fmt.Sprintf(`SELECT count(*) FROM %s WHERE left(%s, 6) = 'dek:v%d'`, table, column, version)
	require.NoError(b.t, b.db.QueryRow(b.t.Context(), query).Scan(&n))
	return n
}

// Names are taken as they are written, whatever they have in them, and a column's collation
// does not matter.
func testAwkwardNames(t *testing.T, b *bench) {
	b.exec(`CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	for i, name := range []string{`a"b`, "a,b", `"a","b"`, "select", "Ünïcode 表", "a b%s$1", "-x"} {
		schema, table, column, key := "S"+name, "T"+name, name, "K"+name
		quoted := pgx.Identifier{schema, table}.Sanitize()
		quote := func(s string) string { return pgx.Identifier{s}.Sanitize() }
		b.exec("CREATE SCHEMA " + quote(schema))
		b.exec(fmt.Sprintf(`CREATE TABLE %s (%s text COLLATE anycase PRIMARY KEY, %s text COLLATE anycase)`, quoted, quote(key), quote(column)))
		b.exec(fmt.Sprintf(`INSERT INTO %s VALUES ($1, $2), ('other', NULL)`, quoted), name, b.seal(tenantID, "x", name))
		b.engine.Rotate(tenantID)
		code, out, errs := b.rewrap("--table", schema+"."+table, "--column="+column, "--associated-data-column="+key, "--tenant", tenantID)
		require.Equal(t, exitDone, code, "%s: %s", name, errs)
		assert.Contains(t, out, "1 rewrapped, 0 current already, 1 empty", name)
		assert.Equal(t, 1, b.atVersion(quoted, quote(column), i+2), name)
	}
}

// The database is asked in the way that the connection string names, as a connection pooler
// may need it.
func testProtocolModes(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text, b bytea)`)
	for i := range 5 {
		text := b.seal(tenantID, "x", "")
		b.exec(`INSERT INTO t VALUES ($1, $2, $3)`, i, text, []byte(text))
	}
	dsn := b.dsn
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		b.engine.Rotate(tenantID)
		b.dsn = dsn + " default_query_exec_mode=" + mode
		code, out, errs := b.rewrap("--table", "t", "--column", "c", "--column", "b", "--tenant", tenantID, "--batch", "4")
		require.Equal(t, exitDone, code, "%s: %s", mode, errs)
		assert.Contains(t, out, "10 rewrapped, 0 current already, 0 empty, 0 written by others meanwhile, 0 refused, of 10", mode)
	}
}

// A row that a policy of the database hides from the command would stay behind, and a report
// say that nothing is left.
func testHiddenRows(t *testing.T, b *bench) {
	b.exec(`CREATE ROLE app LOGIN; CREATE TABLE t (id int PRIMARY KEY, c text); GRANT ALL ON t TO app`)
	b.exec(`ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY even ON t USING (id % 2 = 0)`)
	for i := range 4 {
		b.exec(`INSERT INTO t VALUES ($1, $2)`, i, b.seal(tenantID, "x", ""))
	}
	b.engine.CreateHolder(tenantID, "t")
	b.engine.Rotate(tenantID)
	b.dsn = strings.Replace(b.dsn, "user=postgres", "user=app", 1)
	code, _, errs := b.rewrap("--table", "t", "--column", "c", "--tenant", tenantID)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "row-level security")
	assert.Nil(t, b.engine.Report(tenantID, "t"))
	assert.Zero(t, b.atVersion("t", "c", 2))
}

// A table that cannot be swept is refused before anything is written.
func testTablesRefused(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE base (id int PRIMARY KEY, c text, g text GENERATED ALWAYS AS (lower(c)) STORED);
		CREATE TABLE child () INHERITS (base); CREATE TABLE alone (LIKE base INCLUDING ALL); CREATE VIEW v AS SELECT * FROM alone`)
	for _, refused := range []struct{ table, column, says string }{
		{"base", "c", "inherit"}, {"alone", "g", "generated"}, {"v", "c", "no primary key"},
	} {
		code, _, errs := b.rewrap("--table", refused.table, "--column", refused.column, "--tenant", tenantID)
		assert.Equal(t, exitUsage, code, errs)
		assert.Contains(t, errs, refused.says)
	}
	code, _, errs := b.rewrap("--table", "alone", "--column", "c", "--tenant", tenantID)
	assert.Equal(t, exitDone, code, errs)
}

func testPartitions(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int, region text, c text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE north PARTITION OF t FOR VALUES IN ('n'); CREATE TABLE rest PARTITION OF t DEFAULT`)
	for i := range 30 {
		b.exec(`INSERT INTO t VALUES ($1, $2, $3)`, i/2, []string{"n", "s"}[i%2], b.seal(tenantID, "x", ""))
	}
	b.engine.Rotate(tenantID)
	code, out, errs := b.rewrap("--table", "t", "--column", "c", "--tenant", tenantID, "--batch", "7", "-json")
	require.Equal(t, exitDone, code, errs)
	assert.Contains(t, out, `"event":"done","scanned":30,"rewrapped":30`)
	assert.Equal(t, 30, b.atVersion("t", "c", 2))
}

// A text of transit is not one of the engine's, though it has a version in the same place: it
// is not counted as one of that version.
func testTextsOfOthers(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text)`)
	b.exec(`INSERT INTO t VALUES (1, $1), (2, 'vault:v2:AAAA')`, b.seal(tenantID, "x", ""))
	b.engine.CreateHolder(tenantID, "t")
	b.engine.Rotate(tenantID)
	code, out, errs := b.rewrap("--table", "t", "--column", "c", "--tenant", tenantID)
	assert.Equal(t, exitRefused, code)
	assert.Contains(t, out, "1 rewrapped, 0 current already, 0 empty, 0 written by others meanwhile, 1 refused")
	assert.Contains(t, errs, "nothing is reported for tenant "+tenantID+": 1 texts are not of the current version")
	assert.Nil(t, b.engine.Report(tenantID, "t"))
}

// A checkpoint of another database, or of a run with other associated data, has refused what
// this run has to look at.
func testCheckpointOfAnotherJob(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text, tenant text)`)
	o := &postgresOptions{table: "t", columns: []string{"c"}, tenant: tenantID}
	before := b.checkpointOf(client.Progress{Scanned: 5, Refused: 5, After: place{[]string{"9"}, "c"}.String()}, o)
	for name, change := range map[string]func(job string) string{
		"database":        func(job string) string { return strings.Replace(job, " in test", " in other", 1) },
		"associated data": func(job string) string { return job[:len(job)-2] + `"id"` },
		"tenant":          func(job string) string { return strings.Replace(job, tenantID, otherID, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			other := before
			other.Job = change(before.Job)
			require.NotEqual(t, before.Job, other.Job)
			path := filepath.Join(t.TempDir(), "checkpoint")
			text, err := json.Marshal(other)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, text, 0o600))
			code, _, errs := b.rewrap("--table", "t", "--column", "c", "--tenant", tenantID, "--checkpoint", path)
			assert.Equal(t, exitUsage, code, errs)
			assert.FileExists(t, path)
		})
	}
}

// Of large texts fewer are in memory at once.
func testLargeTexts(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text)`)
	b.exec(`INSERT INTO t SELECT i, repeat('x', 1000000) FROM generate_series(1, 60) AS i; INSERT INTO t SELECT i, 'x' FROM generate_series(61, 2000) AS i`)
	tab, err := describe(t.Context(), b.db, &postgresOptions{table: "t", columns: []string{"c"}, tenant: tenantID})
	require.NoError(t, err)
	s := &postgresStore{db: b.db, table: tab}
	var after string
	var seen, most, largest int
	for {
		records, err := s.Scan(t.Context(), after, 1000)
		require.NoError(t, err)
		if len(records) == 0 {
			break
		}
		size := 0
		for _, r := range records {
			size += len(r.Ciphertext)
		}
		if after != "" { // the first scan cannot know
			largest = max(largest, size)
		}
		assert.LessOrEqual(t, size, stopBytes+1_000_000)
		after, seen, most = records[len(records)-1].Key, seen+len(records), max(most, len(records))
	}
	assert.Equal(t, 2000, seen)
	assert.LessOrEqual(t, largest, scanBytes)
	assert.Equal(t, 1000, most, "small ones come all at once")
}
