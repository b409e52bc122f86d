// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// column is a column of a table.
type column struct {
	name     string
	typeName string // of the database
}

func (c column) quoted() string { return pgx.Identifier{c.name}.Sanitize() }

// of is the column in a statement about the table t. Without t, ORDER BY would
// take the result of that name, which is text.
func (c column) of() string { return "t." + c.quoted() }

// isBinary reports whether its texts are stored as bytes.
func (c column) isBinary() bool { return c.typeName == "bytea" }

// textTypes are the types of columns that can hold a ciphertext.
var textTypes = []string{"text", "character varying", "character", "citext", "bytea"}

// table is the table to be rewrapped, as the database describes it.
type table struct {
	database string
	name     string // quoted
	key      []column
	columns  []column // that have ciphertexts

	tenant, associatedData string // names of columns, quoted; empty: there is none
}

// describe reads from the database what a table is like.
func describe(ctx context.Context, db *pgxpool.Pool, o *postgresOptions) (*table, error) {
	t := &table{name: pgx.Identifier(strings.Split(o.table, ".")).Sanitize()}
	all, err := columnsOf(ctx, db, t.name, `SELECT a.attname, format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE a.atttypid END, NULL)
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped`)
	if err != nil {
		return nil, fmt.Errorf("reading the columns of %s: %w", o.table, err)
	}
	if err := t.refuse(ctx, db, o); err != nil {
		return nil, err
	}
	t.key, err = columnsOf(ctx, db, t.name, `SELECT a.attname, format_type(a.atttypid, a.atttypmod)
		FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
		WHERE i.indrelid = $1::text::regclass AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place`)
	if err != nil {
		return nil, fmt.Errorf("reading the primary key of %s: %w", o.table, err)
	}
	if len(t.key) == 0 {
		return nil, usage("table %s has no primary key", o.table)
	}
	for _, name := range o.columns {
		c, err := find(all, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(textTypes, c.typeName) {
			return nil, usage("column %s is %s: it must be text, varchar or bytea", name, c.typeName)
		}
		if slices.ContainsFunc(t.key, func(k column) bool { return k.name == name }) {
			return nil, usage("column %s is part of the primary key", name)
		}
		t.columns = append(t.columns, c)
	}
	for into, name := range map[*string]string{&t.tenant: o.tenantColumn, &t.associatedData: o.associatedDataColumn} {
		if name == "" {
			continue
		}
		c, err := find(all, name)
		if err != nil {
			return nil, err
		}
		*into = asText(c)
	}
	return t, nil
}

// refuse refuses a table that cannot be swept as it is: one whose column the database
// computes, and one to which other tables belong by inheritance, as their rows may have the
// same primary keys.
func (t *table) refuse(ctx context.Context, db *pgxpool.Pool, o *postgresOptions) error {
	var generated []string
	var hasChildren bool
	err := db.QueryRow(ctx, `SELECT current_database(),
		ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attgenerated <> ''),
		c.relkind <> 'p' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
		FROM pg_class c WHERE c.oid = $1::text::regclass`, t.name).Scan(&t.database, &generated, &hasChildren)
	if err != nil {
		return fmt.Errorf("reading what %s is: %w", o.table, err)
	}
	if hasChildren {
		return usage("table %s has tables that inherit from it, whose rows its primary key does not tell apart", o.table)
	}
	for _, name := range o.columns {
		if slices.Contains(generated, name) {
			return usage("column %s is generated: name the column that it is made from", name)
		}
	}
	return nil
}

func columnsOf(ctx context.Context, db *pgxpool.Pool, table, query string) ([]column, error) {
	rows, err := db.Query(ctx, query, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		return c, row.Scan(&c.name, &c.typeName)
	})
}

func find(all []column, name string) (column, error) {
	for _, c := range all {
		if c.name == name {
			return c, nil
		}
	}
	return column{}, usage("there is no column %s", name)
}

// asText is the expression of a column's value as text.
func asText(c column) string {
	if c.isBinary() {
		// Ciphertexts are ASCII; other bytes come as what does not open.
		return "encode(" + c.of() + ", 'escape')"
	}
	return c.of() + "::text"
}

// scanQuery is the query of a page of rows: the key, then the tenant and the
// associated data, then the texts. Behind a key, its parts are the parameters. The limit
// is none: the plan must know how few rows it is for, and go by the index.
func (t *table) scanQuery(behind bool, limit int) string {
	var values []string
	for _, k := range t.key {
		values = append(values, k.of()+"::text")
	}
	for _, extra := range []string{t.tenant, t.associatedData} {
		if extra == "" {
			extra = "NULL::text"
		}
		values = append(values, extra)
	}
	for _, c := range t.columns {
		values = append(values, asText(c))
	}
	var keys, places []string
	for i, k := range t.key {
		keys = append(keys, k.of())
		places = append(places, fmt.Sprintf("$%d::text::%s", i+1, k.typeName))
	}
	where := ""
	if behind {
		where = fmt.Sprintf(" WHERE (%s) > (%s)", strings.Join(keys, ", "), strings.Join(places, ", "))
	}
	return fmt.Sprintf("SELECT %s FROM %s AS t%s ORDER BY %s LIMIT %d",
		strings.Join(values, ", "), t.name, where, strings.Join(keys, ", "), limit)
}

// swapQuery is the statement that writes texts of one column where the old ones
// still are. Its parameters are lists: places, old texts, new texts, the parts of
// the keys. It returns the places that it wrote.
func (t *table) swapQuery(c column) string {
	names, lists, match := []string{"place", "old", "new"}, []string{"$1::int8[]", "$2::text[]", "$3::text[]"}, []string{}
	for i, k := range t.key {
		names = append(names, fmt.Sprintf("k%d", i))
		lists = append(lists, fmt.Sprintf("$%d::text[]", i+4))
		match = append(match, fmt.Sprintf("%s = u.k%d::%s", k.of(), i, k.typeName))
	}
	next, same := "u.new", fmt.Sprintf(`%s::text COLLATE "C" = u.old`, c.of())
	if c.isBinary() {
		next, same = "convert_to(u.new, 'UTF8')", fmt.Sprintf("%s = convert_to(u.old, 'UTF8')", c.of())
	}
	return fmt.Sprintf("UPDATE %s AS t SET %s = %s FROM unnest(%s) AS u(%s) WHERE %s AND %s RETURNING u.place",
		t.name, c.quoted(), next, strings.Join(lists, ", "), strings.Join(names, ", "), strings.Join(match, " AND "), same)
}

// countQuery counts texts by tenant and beginning, which has the version. What does not
// begin as a ciphertext of the engine has none, such as one of transit.
func (t *table) countQuery() string {
	tenant := t.tenant
	if tenant == "" {
		tenant = "NULL::text"
	}
	parts := make([]string, len(t.columns))
	for i, c := range t.columns {
		parts[i] = fmt.Sprintf(`SELECT %s AS tenant, left(%s, 16) COLLATE "C" AS start FROM %s AS t WHERE %s <> ''`,
			tenant, asText(c), t.name, asText(c))
	}
	return "SELECT coalesce(tenant, ''), CASE WHEN left(start, 5) = 'dek:v' THEN split_part(start, ':', 2) ELSE '' END, count(*) FROM (" +
		strings.Join(parts, " UNION ALL ") + ") AS texts GROUP BY 1, 2"
}

// errPostgres marks failures of the database.
var errPostgres = errors.New("PostgreSQL")
