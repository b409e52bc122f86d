// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// postgresStore is a table as a store. Each text of a row is a record; those of a
// row come together, so that the key of a row is where a scan goes on.
type postgresStore struct {
	db     *pgxpool.Pool
	table  *table
	tenant string // of all rows, if the table has no column for it
	ad     string // the same
}

// place is a record's key: the row's primary key as text, and the column.
type place struct {
	Row    []string `json:"row"`
	Column string   `json:"column"`
}

func (p place) String() string {
	text, err := json.Marshal(p)
	if err != nil {
		return "" // strings can always be encoded
	}
	return string(text)
}

func parsePlace(key string) (p place, err error) {
	if err := json.Unmarshal([]byte(key), &p); err != nil {
		return p, fmt.Errorf("a place in the table must be a row and a column: %w", err)
	}
	return p, nil
}

// Scan reads as many rows as have limit texts, at least one.
func (s *postgresStore) Scan(ctx context.Context, after string, limit int) ([]client.Record, error) {
	args := []any{max(limit/len(s.table.columns), 1)}
	if after != "" {
		p, err := parsePlace(after)
		if err != nil {
			return nil, err
		}
		if len(p.Row) != len(s.table.key) {
			return nil, fmt.Errorf("a place in the table has %d parts, its primary key %d", len(p.Row), len(s.table.key))
		}
		for _, part := range p.Row {
			args = append(args, part)
		}
	}
	rows, err := s.db.Query(ctx, s.table.scanQuery(after != ""), args...)
	if err != nil {
		return nil, fmt.Errorf("%w: reading rows: %w", errPostgres, err)
	}
	defer rows.Close()
	var out []client.Record
	for rows.Next() {
		if out, err = s.records(rows, out); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%w: reading rows: %w", errPostgres, err)
	}
	return out, nil
}

// records appends the records of one row.
func (s *postgresStore) records(row pgx.Rows, out []client.Record) ([]client.Record, error) {
	keys := len(s.table.key)
	values := make([]*string, keys+2+len(s.table.columns))
	into := make([]any, len(values))
	for i := range values {
		into[i] = &values[i]
	}
	if err := row.Scan(into...); err != nil {
		return nil, fmt.Errorf("%w: reading a row: %w", errPostgres, err)
	}
	p := place{Row: make([]string, keys)}
	for i := range p.Row {
		p.Row[i] = orEmpty(values[i]) // a primary key is never NULL
	}
	tenant, ad := s.tenant, s.ad
	if s.table.tenant != "" {
		tenant = orEmpty(values[keys])
	}
	if s.table.associatedData != "" {
		ad = orEmpty(values[keys+1])
	}
	for i, c := range s.table.columns {
		p.Column = c.name
		out = append(out, client.Record{
			Key: p.String(), Tenant: tenant, Ciphertext: orEmpty(values[keys+2+i]), AssociatedData: []byte(ad),
		})
	}
	return out, nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Swap writes the changes in one transaction.
func (s *postgresStore) Swap(ctx context.Context, changes []client.Change) ([]bool, error) {
	written := make([]bool, len(changes))
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		for _, c := range s.table.columns {
			if err := s.swap(ctx, tx, c, changes, written); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: writing rows: %w", errPostgres, err)
	}
	return written, nil
}

// swap writes the changes of one column.
func (s *postgresStore) swap(ctx context.Context, tx pgx.Tx, c column, changes []client.Change, written []bool) error {
	var places []int64
	var olds, news []string
	keys := make([][]string, len(s.table.key))
	for i, change := range changes {
		p, err := parsePlace(change.Record.Key)
		if err != nil {
			return err
		}
		if p.Column != c.name {
			continue
		}
		places = append(places, int64(i))
		olds, news = append(olds, change.Record.Ciphertext), append(news, change.Ciphertext)
		for j := range keys {
			keys[j] = append(keys[j], p.Row[j])
		}
	}
	if len(places) == 0 {
		return nil
	}
	args := []any{places, olds, news}
	for _, part := range keys {
		args = append(args, part)
	}
	rows, err := tx.Query(ctx, s.table.swapQuery(c), args...)
	if err != nil {
		return err
	}
	done, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	for _, i := range done {
		written[i] = true
	}
	return err
}

// count is how many texts there are of each tenant and version.
type count struct {
	tenant, version string // version as in v2; anything else is no ciphertext
	n               int64
}

func (s *postgresStore) counts(ctx context.Context) ([]count, error) {
	rows, err := s.db.Query(ctx, s.table.countQuery())
	if err != nil {
		return nil, fmt.Errorf("%w: counting: %w", errPostgres, err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c count, err error) {
		err = row.Scan(&c.tenant, &c.version, &c.n)
		if s.table.tenant == "" {
			c.tenant = s.tenant
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: counting: %w", errPostgres, err)
	}
	return out, nil
}

// databaseMayPass reports whether a failure of the database may be over soon: it
// restarts, the connection broke, or another transaction was in the way.
func databaseMayPass(err error) bool {
	var answered *pgconn.PgError
	if errors.As(err, &answered) {
		for _, class := range []string{"08", "40", "53", "57P"} {
			if strings.HasPrefix(answered.Code, class) {
				return true
			}
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err)
}
