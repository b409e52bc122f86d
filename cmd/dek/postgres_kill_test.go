// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/postgrestest"
)

// traffic writes and reads the rows of a table all the while, and knows what each
// row must open to.
type traffic struct {
	b    *bench
	aead *client.AEAD
	rows int

	mu   sync.Mutex
	last map[int]string // plaintexts whose writes were acknowledged
	held map[int]bool   // rows whose latest write has an unknown outcome
}

// write writes new texts to the rows that are its own, until the context ends.
func (w *traffic) write(ctx context.Context, own, of int) {
	for n := 0; ctx.Err() == nil; n++ {
		row := own + of*(n%(w.rows/of))
		plaintext := fmt.Sprintf("row %d, %d", row, n)
		text, err := w.aead.Encrypt([]byte(plaintext), fmt.Append(nil, row))
		if !assert.NoError(w.b.t, err) {
			return
		}
		_, err = w.b.db.Exec(ctx, `UPDATE t SET c = $2 WHERE id = $1`, row, string(text))
		w.mu.Lock()
		if err == nil {
			w.last[row] = plaintext
		}
		w.held[row] = err != nil // the database was killed: it may have been stored
		w.mu.Unlock()
	}
}

// read opens rows until the context ends: each opens, whenever it is read.
func (w *traffic) read(ctx context.Context) {
	for row := 0; ctx.Err() == nil; row = (row + 7) % w.rows {
		var text string
		if w.b.db.QueryRow(ctx, `SELECT c FROM t WHERE id = $1`, row).Scan(&text) != nil {
			continue // the database was killed
		}
		_, err := w.aead.Decrypt([]byte(text), fmt.Append(nil, row))
		assert.NoError(w.b.t, err, "row %d", row)
	}
}

// The command is killed, then PostgreSQL, again and again, while others read and
// write the table: no acknowledged write is lost, every row opens, and none is
// left on the old version.
func TestPostgresKilled(t *testing.T) {
	server := postgrestest.Start(t)
	b := newBench(t, server)
	w := &traffic{b: b, rows: 4000, last: map[int]string{}, held: map[int]bool{}}
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text)`)
	old, err := aeadOf(b.engine, tenantID)
	require.NoError(t, err)
	for i := range w.rows {
		w.last[i] = fmt.Sprint("row ", i)
		text, err := old.Encrypt([]byte(w.last[i]), fmt.Append(nil, i))
		require.NoError(t, err)
		b.exec(`INSERT INTO t VALUES ($1, $2)`, i, string(text))
	}
	require.NoError(t, old.Close())
	b.engine.Rotate(tenantID)
	w.aead = b.aeads()[tenantID]

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { w.write(ctx, i, 4) })
		wg.Go(func() { w.read(ctx) })
	}
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	start := func() *exec.Cmd {
		before := scanned(t, checkpoint)
		cmd := exec.CommandContext(ctx, "dek", "rewrap", "postgres", "--dsn", b.dsn, "--table", "t", "--column", "c",
			"--tenant", tenantID, "--associated-data-column", "id", "--batch", "20", "--rate", "2000", "--checkpoint", checkpoint)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		w.awaitMore(checkpoint, before)
		return cmd
	}
	for range 4 {
		cmd := start()
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	cmd := start()
	for range 2 {
		before := scanned(t, checkpoint)
		server.Kill()
		server.Restart()
		w.awaitMore(checkpoint, before)
	}
	require.NoError(t, cmd.Wait(), "it waits for the database, and ends well")
	stop()
	wg.Wait()
	w.check()
}

// awaitMore waits until the command is further than before.
func (w *traffic) awaitMore(checkpoint string, before int64) {
	w.b.t.Helper()
	require.Eventually(w.b.t, func() bool { return scanned(w.b.t, checkpoint) > before }, time.Minute, time.Millisecond)
}

func scanned(t *testing.T, path string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	var c checkpoint[client.Progress]
	require.NoError(t, json.Unmarshal(text, &c), "a checkpoint is whole at all times")
	return c.Progress.Scanned
}

// check opens every row, with nothing but the new version there.
func (w *traffic) check() {
	t := w.b.t
	w.b.engine.DestroyVersion(tenantID, 1)
	w.aead.Forget()
	for row := range w.rows {
		var text string
		require.NoError(t, w.b.db.QueryRow(t.Context(), `SELECT c FROM t WHERE id = $1`, row).Scan(&text))
		version, err := client.VersionOf(text)
		require.NoError(t, err)
		assert.Equal(t, 2, version, "row %d", row)
		got, err := w.aead.Decrypt([]byte(text), fmt.Append(nil, row))
		require.NoError(t, err, "row %d", row)
		if !w.held[row] {
			assert.Equal(t, w.last[row], string(got))
		}
	}
}

// What a report says is there after a crash too: a database that answers before it has
// written would else come back with texts of the version that was reported gone.
func TestPostgresKilledBehindAReport(t *testing.T) {
	server := postgrestest.Start(t)
	b := newBench(t, server)
	b.exec(`ALTER SYSTEM SET synchronous_commit = off`)
	b.exec(`ALTER SYSTEM SET wal_writer_delay = '10s'`)
	b.exec(`SELECT pg_reload_conf()`)
	b.exec(`CREATE TABLE t (id int PRIMARY KEY, c text)`)
	for i := range 20 {
		b.exec(`INSERT INTO t VALUES ($1, $2)`, i, b.seal(tenantID, "x", ""))
	}
	b.exec(`CHECKPOINT`)
	b.engine.CreateHolder(tenantID, "t")
	b.engine.Rotate(tenantID)
	b.exec(`UPDATE t SET c = $1 WHERE id = 0`, b.seal(tenantID, "later", ""))
	code, out, errs := b.rewrap("--table", "t", "--column", "c", "--tenant", tenantID, "-json")
	require.Equal(t, exitDone, code, errs)
	require.Contains(t, out, `"event":"reported"`)
	server.Kill()
	server.Restart()
	require.Eventually(t, func() bool { return b.db.Ping(t.Context()) == nil }, time.Minute, time.Millisecond)
	assert.Equal(t, 20, b.atVersion("t", "c", 2))
}
