// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
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
	halves int    // how often a scan halves its limit, for what rows are large; used by one scan at a time
	read   bool   // whether halves is known
}

// A scan asks for as many rows as had scanBytes of text before, and stops at stopBytes: a few
// batches are in memory at once, and each in several copies. The first asks for few.
const (
	scanBytes   = 4 << 20
	stopBytes   = 4 * scanBytes
	firstHalves = 4
)

// Scan reads as many rows as have limit texts, at least one, and fewer large ones.
func (s *postgresStore) Scan(ctx context.Context, after string, limit int) ([]client.Record, error) {
	var args []any
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
	rows, err := s.db.Query(ctx, s.table.scanQuery(after != "", s.rowsOf(limit)), args...)
	if err != nil {
		return nil, fmt.Errorf("%w: reading rows: %w", errPostgres, err)
	}
	defer rows.Close()
	out := make([]client.Record, 0, limit)
	size, n := 0, 0
	for size < stopBytes && rows.Next() {
		for _, value := range rows.RawValues() {
			size += len(value)
		}
		n++
		out = s.records(rows, out)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%w: reading rows: %w", errPostgres, err)
	}
	s.adapt(limit, n, size)
	return out, nil
}

// rowsOf is how many rows are asked for, of as many as have limit texts.
func (s *postgresStore) rowsOf(limit int) int {
	halves := s.halves
	if !s.read {
		halves = firstHalves
	}
	return max(limit/len(s.table.columns)>>halves, 1)
}

// adapt says how many rows the next scan asks for, after n that had so many bytes.
func (s *postgresStore) adapt(limit, n, size int) {
	if n == 0 {
		return
	}
	s.read, s.halves = true, 0
	for s.rowsOf(limit) > 1 && s.rowsOf(limit)*(size/n) > scanBytes {
		s.halves++
	}
}

// records appends the records of one row.
func (s *postgresStore) records(row pgx.Rows, out []client.Record) []client.Record {
	values := row.RawValues() // all are text, which both formats of the protocol have as it is
	keys := len(s.table.key)
	p := place{Row: make([]string, keys)}
	for i := range p.Row {
		p.Row[i] = string(values[i]) // a primary key is never NULL
	}
	tenant, ad := s.tenant, s.ad
	if s.table.tenant != "" {
		tenant = string(values[keys])
	}
	if s.table.associatedData != "" {
		ad = string(values[keys+1])
	}
	for i, c := range s.table.columns {
		p.Column = c.name
		out = append(out, client.Record{
			Key: p.String(), Tenant: tenant, Ciphertext: string(values[keys+2+i]), AssociatedData: []byte(ad),
		})
	}
	return out
}

// Swap writes the changes in one transaction.
func (s *postgresStore) Swap(ctx context.Context, changes []client.Change) ([]bool, error) {
	written := make([]bool, len(changes))
	var err error
	if len(s.table.columns) == 1 { // one statement is a transaction by itself
		err = s.swap(ctx, s.db, s.table.columns[0], changes, written)
	} else {
		err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error { return s.swapAll(ctx, tx, changes, written) })
	}
	if err != nil {
		return nil, fmt.Errorf("%w: writing rows: %w", errPostgres, err)
	}
	return written, nil
}

func (s *postgresStore) swapAll(ctx context.Context, tx pgx.Tx, changes []client.Change, written []bool) error {
	for _, c := range s.table.columns {
		if err := s.swap(ctx, tx, c, changes, written); err != nil {
			return err
		}
	}
	return nil
}

// querier is the database, or a transaction in it.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// swap writes the changes of one column.
func (s *postgresStore) swap(ctx context.Context, db querier, c column, changes []client.Change, written []bool) error {
	places := make([]int64, 0, len(changes))
	olds, news := make([]string, 0, len(changes)), make([]string, 0, len(changes))
	keys := make([][]string, len(s.table.key))
	for j := range keys {
		keys[j] = make([]string, 0, len(changes))
	}
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
	rows, err := db.Query(ctx, s.table.swapQuery(c), args...)
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

// flush has the database keep, through a crash too, all that was committed by now. With
// synchronous_commit off a count sees commits that a crash takes back, and with them the
// texts that were there before.
func (s *postgresStore) flush(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		for _, statement := range []string{
			`SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`,
			// Only a transaction that has written something is waited for.
			`SELECT pg_logical_emit_message(true, 'dek rewrap', '')`,
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: flushing what was counted: %w", errPostgres, err)
	}
	return nil
}

// databaseMayPass reports whether a failure of the database may be over soon: it
// restarts, the connection broke, or another transaction was in the way.
func databaseMayPass(err error) bool {
	var answered *pgconn.PgError
	if errors.As(err, &answered) {
		for _, class := range []string{"08", "40", "53", "55P03", "57P"} { // 55P03 is lock_timeout
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
