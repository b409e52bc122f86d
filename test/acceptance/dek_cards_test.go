// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// cards is a table of ciphertexts, with writers and readers at work.
type cards struct {
	t    *testing.T
	aead *client.AEAD
	db   *pgxpool.Pool
	rows int

	mu            sync.Mutex
	may           map[int][]string // what a row may hold: the write acknowledged last, and those since
	writes, reads atomic.Int64
}

func firstText(row int) string { return fmt.Sprintf("row %d, as it was in the beginning", row) }
func rowAD(row int) []byte     { return strconv.AppendInt(nil, int64(row), 10) }

// fill makes the table.
func (c *cards) fill() {
	_, err := c.db.Exec(c.t.Context(), `CREATE TABLE cards (id int PRIMARY KEY, number text NOT NULL)`)
	require.NoError(c.t, err)
	row := -1
	_, err = c.db.CopyFrom(c.t.Context(), pgx.Identifier{"cards"}, []string{"id", "number"}, pgx.CopyFromFunc(func() ([]any, error) {
		if row++; row == c.rows {
			return nil, nil
		}
		text, err := c.aead.Encrypt([]byte(firstText(row)), rowAD(row))
		return []any{row, string(text)}, err
	}))
	require.NoError(c.t, err)
}

// work lets workers write and as many read until stop is called.
func (c *cards) work(workers int) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { each(ctx, func(n int) { c.write(ctx, i+workers*(n*7919%(c.rows/workers)), n) }) })
		wg.Go(func() { each(ctx, func(n int) { c.read(ctx, (i+n*7919)%c.rows) }) })
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// each calls f again and again until the context ends, with pauses that leave the
// machine something.
func each(ctx context.Context, f func(n int)) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			f(n)
		case <-ctx.Done():
			return
		}
	}
}

// write writes to a row that no other worker writes to.
func (c *cards) write(ctx context.Context, row, n int) {
	plaintext := fmt.Sprintf("row %d, write %d", row, n)
	text, err := c.aead.EncryptContext(ctx, []byte(plaintext), rowAD(row))
	if err != nil {
		return // Vault is down
	}
	c.mu.Lock()
	if c.may[row] == nil {
		c.may[row] = []string{firstText(row)}
	}
	c.may[row] = append(c.may[row], plaintext)
	c.mu.Unlock()
	if _, err = c.db.Exec(ctx, `UPDATE cards SET number = $2 WHERE id = $1`, row, string(text)); err != nil {
		return // the database is down, and it may have been stored or not
	}
	c.mu.Lock()
	c.may[row] = []string{plaintext}
	c.mu.Unlock()
	c.writes.Add(1)
}

// read opens a row: each opens, whenever it is read.
func (c *cards) read(ctx context.Context, row int) {
	var text, before string
	for {
		if c.db.QueryRow(ctx, `SELECT number FROM cards WHERE id = $1`, row).Scan(&text) != nil {
			return // the database is down
		}
		_, err := c.aead.DecryptContext(ctx, []byte(text), rowAD(row))
		switch {
		case err == nil:
			c.reads.Add(1)
			return
		case !client.DoesNotOpen(err):
			return // Vault is down
		case text == before:
			assert.NoError(c.t, err, "row %d", row)
			return
		}
		before = text // it was rewrapped after it was read, perhaps
	}
}

// check opens every row, with keys that are asked for anew.
func (c *cards) check(version int) {
	t := c.t
	c.aead.Forget()
	rows, err := c.db.Query(t.Context(), `SELECT id, number FROM cards`)
	require.NoError(t, err)
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var row int
		var text string
		require.NoError(t, rows.Scan(&row, &text))
		got, err := c.aead.Decrypt([]byte(text), rowAD(row))
		require.NoError(t, err, "row %d", row)
		is, err := client.VersionOf(text)
		require.NoError(t, err)
		require.Equal(t, version, is, "row %d", row)
		want := c.may[row]
		if want == nil {
			want = []string{firstText(row)}
		}
		require.Contains(t, want, string(got), "row %d", row)
		seen++
	}
	require.NoError(t, rows.Err())
	assert.Equal(t, c.rows, seen, "no row is lost")
}
