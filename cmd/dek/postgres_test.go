// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/postgrestest"
)

// bench is an engine and a database.
type bench struct {
	t      *testing.T
	engine *clienttest.Engine
	dsn    string
	db     *pgxpool.Pool
}

// newBench makes a database of its own in the server.
func newBench(t *testing.T, server *postgrestest.Server) *bench {
	t.Helper()
	b := &bench{t: t, engine: clienttest.New(), dsn: server.NewDatabase()}
	db, err := pgxpool.New(t.Context(), b.dsn)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	b.db = db
	b.engine.CreateTenant(tenantID)
	b.engine.CreateTenant(otherID)
	vault := httptest.NewServer(b.engine)
	t.Cleanup(vault.Close)
	t.Setenv("VAULT_ADDR", vault.URL)
	t.Setenv("VAULT_TOKEN", "token")
	return b
}

func TestPostgres(t *testing.T) {
	server := postgrestest.Start(t)
	for name, test := range map[string]func(*testing.T, *bench){
		"rewrap": testRewrapPostgres, "tenant that is gone": testTenantThatIsGone, "swap": testSwap,
		"usage": testPostgresUsage, "count at the end": testCountAtTheEnd,
		"report": testReport, "awkward names": testAwkwardNames, "modes of the protocol": testProtocolModes,
		"hidden rows": testHiddenRows, "tables that are refused": testTablesRefused, "texts of others": testTextsOfOthers,
		"checkpoint of another job": testCheckpointOfAnotherJob, "partitions": testPartitions, "large texts": testLargeTexts,
	} {
		t.Run(name, func(t *testing.T) { test(t, newBench(t, server)) })
	}
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.db.Exec(b.t.Context(), sql, args...)
	require.NoError(b.t, err)
}

func (b *bench) seal(id, plaintext, ad string) string {
	b.t.Helper()
	aead, err := aeadOf(b.engine, id)
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, aead.Close()) }()
	text, err := aead.Encrypt([]byte(plaintext), []byte(ad))
	require.NoError(b.t, err)
	return string(text)
}

// rewrap runs the command.
func (b *bench) rewrap(args ...string) (code int, stdout, stderr string) {
	b.t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"rewrap", "postgres", "--dsn", b.dsn}, args...)
	code = run(b.t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// Two columns of two kinds, a primary key of three types in another order than
// the columns, NULLs, two tenants, and rows that do not open.
func testRewrapPostgres(t *testing.T, b *bench) {
	b.exec(`CREATE SCHEMA app; CREATE TABLE app."Cards" (
		card text, note bytea, tenant uuid, seq bigint, at timestamptz, region text COLLATE "C",
		PRIMARY KEY (region, at, seq) INCLUDE (tenant))`)
	type row struct{ tenant, plaintext string }
	rows := map[int]row{}
	for i := range 300 {
		id := []string{tenantID, otherID}[i%2]
		rows[i] = row{id, fmt.Sprint("card ", i)}
		var card, note any = b.seal(id, rows[i].plaintext, fmt.Sprint(i)), []byte(b.seal(id, "note", fmt.Sprint(i)))
		switch {
		case i == 7:
			card = "nonsense"
		case i == 8:
			card = b.seal(id, "of another row", "9")
		case i == 9:
			note = []byte{0, 255, '\\'}
		case i%10 == 0:
			note = nil
		}
		b.exec(`INSERT INTO app."Cards" VALUES ($1, $2, $3, $4, now() - $4::bigint * interval '1.000001 s', $5)`,
			card, note, id, i, []string{`a"b`, "ä", "", "x,y"}[i%4])
	}
	b.engine.Rotate(tenantID)
	b.engine.Rotate(otherID)
	args := []string{
		"--table", "app.Cards", "--column", "card", "--column", "note", "--tenant-column", "tenant",
		"--associated-data-column", "seq", "--batch", "64", "-json",
	}

	code, out, _ := b.rewrap(append(args, "--dry-run")...)
	assert.Equal(t, exitRefused, code)
	assert.Contains(t, out, `"texts":570,"to_rewrap":570`)
	code, out, errs := b.rewrap(args...)
	assert.Equal(t, exitRefused, code, errs)
	assert.Contains(t, out, `"scanned":600,"rewrapped":567,"current":0,"empty":30,"raced":0,"refused":3`)
	var named []place
	for line := range strings.Lines(out) {
		var event struct{ Event, Key string }
		require.NoError(t, json.Unmarshal([]byte(line), &event))
		if event.Event == "refused" {
			p, err := parsePlace(event.Key)
			require.NoError(t, err)
			named = append(named, place{Row: p.Row[2:], Column: p.Column})
		}
	}
	assert.ElementsMatch(t, []place{{[]string{"7"}, "card"}, {[]string{"8"}, "card"}, {[]string{"9"}, "note"}}, named)

	b.engine.DestroyVersion(tenantID, 1)
	b.engine.DestroyVersion(otherID, 1)
	for id, aead := range b.aeads() {
		all, err := b.db.Query(t.Context(), `SELECT seq, card, note FROM app."Cards" WHERE tenant = $1 AND seq NOT IN (7, 8, 9)`, id)
		require.NoError(t, err)
		var seq int
		var card string
		var note []byte
		tag, err := pgx.ForEachRow(all, []any{&seq, &card, &note}, func() error {
			got, err := aead.Decrypt([]byte(card), []byte(fmt.Sprint(seq)))
			assert.NoError(t, err)
			assert.Equal(t, rows[seq].plaintext, string(got))
			if seq%10 == 0 {
				assert.Nil(t, note)
				return nil
			}
			got, err = aead.Decrypt(note, []byte(fmt.Sprint(seq)))
			assert.NoError(t, err)
			assert.Equal(t, "note", string(got))
			return nil
		})
		require.NoError(t, err)
		assert.NotZero(t, tag.RowsAffected())
	}
	code, out, _ = b.rewrap(args...)
	assert.Equal(t, exitRefused, code)
	assert.Contains(t, out, `"rewrapped":0,"current":567`)
}

func (b *bench) aeads() map[string]*client.AEAD {
	b.t.Helper()
	out := map[string]*client.AEAD{}
	for _, id := range []string{tenantID, otherID} {
		aead, err := aeadOf(b.engine, id)
		require.NoError(b.t, err)
		b.t.Cleanup(func() { assert.NoError(b.t, aead.Close()) })
		out[id] = aead
	}
	return out
}

// A tenant that is gone keeps nobody else's rows from being rewrapped.
func testTenantThatIsGone(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, tenant text, c text)`)
	b.exec(`INSERT INTO t VALUES (1, $1, $2), (2, $3, $4), (3, 'nobody', $4), (4, NULL, ''), (5, NULL, $4)`,
		tenantID, b.seal(tenantID, "x", ""), otherID, b.seal(otherID, "x", ""))
	b.engine.Rotate(tenantID)
	b.engine.DeleteTenant(otherID)
	code, out, errs := b.rewrap("--table", "t", "--column", "c", "--tenant-column", "tenant")
	assert.Equal(t, exitRefused, code, errs)
	assert.Contains(t, out, "1 rewrapped, 0 current already, 1 empty, 0 written by others meanwhile, 3 refused, of 5")
}

// What somebody has written since it was read stays: the old text is compared.
func testSwap(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text, b bytea)`)
	b.exec(`INSERT INTO t VALUES (1, 'old', 'old'), (2, 'later', 'later'), (3, NULL, NULL)`)
	o := &postgresOptions{table: "t", columns: []string{"c", "b"}, tenant: tenantID}
	tab, err := describe(t.Context(), b.db, o)
	require.NoError(t, err)
	s := &postgresStore{db: b.db, table: tab}
	var changes []client.Change
	for _, row := range []string{"1", "2", "3", "4"} {
		for _, column := range o.columns {
			changes = append(changes, client.Change{
				Record: client.Record{Key: place{[]string{row}, column}.String(), Ciphertext: "old"}, Ciphertext: "new",
			})
		}
	}
	written, err := s.Swap(t.Context(), changes)
	require.NoError(t, err)
	assert.Equal(t, []bool{true, true, false, false, false, false, false, false}, written)
	var all string
	require.NoError(t, b.db.QueryRow(t.Context(), `SELECT string_agg(c || convert_from(b, 'UTF8'), ',' ORDER BY id) FROM t`).Scan(&all))
	assert.Equal(t, "newnew,laterlater", all)
}

func testPostgresUsage(t *testing.T, b *bench) {
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text, n int); CREATE TABLE nokey (c text); CREATE TABLE k (c text PRIMARY KEY)`)
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, os.WriteFile(checkpoint, []byte(`{"job":"another"}`), 0o600))
	fine := []string{"--table", "t", "--column", "c", "--tenant", tenantID}
	for name, args := range map[string][]string{
		"no table":             {"--column", "c", "--tenant", tenantID},
		"no column":            {"--table", "t", "--tenant", tenantID},
		"no tenant":            {"--table", "t", "--column", "c"},
		"two tenants":          append(fine, "--tenant-column", "c"),
		"no tenant's ID":       {"--table", "t", "--column", "c", "--tenant", "nobody"},
		"unknown column":       {"--table", "t", "--column", "missing", "--tenant", tenantID},
		"column of numbers":    {"--table", "t", "--column", "n", "--tenant", tenantID},
		"no primary key":       {"--table", "nokey", "--column", "c", "--tenant", tenantID},
		"column of the key":    {"--table", "k", "--column", "c", "--tenant", tenantID},
		"another's checkpoint": append(fine, "--checkpoint", checkpoint),
		"batch of none":        append(fine, "--batch", "0"),
		"faulty DSN":           append(fine, "--dsn", "port=x password=hunter2"),
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := b.rewrap(args...)
			assert.Equal(t, exitUsage, code, errs)
			assert.NotContains(t, errs, "hunter2")
		})
	}
	code, _, _ := b.rewrap("--table", "missing", "--column", "c", "--tenant", tenantID)
	assert.Equal(t, exitFailed, code)
	code, out, _ := b.rewrap(fine...)
	assert.Equal(t, exitDone, code)
	assert.Contains(t, out, "of 0")
}
