// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/postgres"
)

// The tables that are rewrapped, by what made their texts, and how many rows they have: as
// many as each side takes some seconds for.
const (
	envelopeTable, envelopeRows = "envelopes", 100_000
	engineTable, engineRows     = "engine_texts", 20_000
	batchTable, batchRows       = "transit_batch", 40_000
	singleTable, singleRows     = "transit_single", 5_000
	plainTable, plainRows       = "plain", 100_000
)

func (b *bench) rewrapped() tenant {
	return tenant{devstack.Mount, "00000000-0000-4000-8000-0000000000ee", 60}
}

// rewrapRows has dek rewrap postgres bring tables to the new version after a rotation, and
// what people do without it beside: transit's rewrap in batches, with a call a row, and with
// an update a row too, and reading and updating the rows without any cryptography.
func rewrapRows(ctx context.Context, b *bench) error {
	db, err := b.tables(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	dek := func(table string, rows int) side {
		return func(ctx context.Context) (float64, error) { return b.runDek(ctx, table, b.sized(rows)) }
	}
	table := func(name string, rows int, sweep func(context.Context, sweptTable) (float64, error)) side {
		t := sweptTable{db, name, b.sized(rows)}
		return func(ctx context.Context) (float64, error) {
			if err := b.vault.post(ctx, transitMount+"/keys/bench/rotate", nil); err != nil {
				return 0, err
			}
			return sweep(ctx, t)
		}
	}
	rates, err := alternate(ctx, b.rounds(2), dek(envelopeTable, envelopeRows), dek(engineTable, engineRows),
		table(batchTable, batchRows, func(ctx context.Context, t sweptTable) (float64, error) { return t.sweep(ctx, b.transitBatch) }),
		table(singleTable, singleRows, func(ctx context.Context, t sweptTable) (float64, error) { return t.sweep(ctx, b.transitSingle) }),
		table(plainTable, plainRows, func(ctx context.Context, t sweptTable) (float64, error) { return t.sweep(ctx, otherTexts) }),
		table(batchTable, batchRows, func(ctx context.Context, t sweptTable) (float64, error) { return t.sweepPipelined(ctx, b.transitBatch) }),
		table(singleTable, singleRows, func(ctx context.Context, t sweptTable) (float64, error) { return t.sweepRowByRow(ctx, b.transitOne) }))
	if err != nil {
		return err
	}
	b.set("rewrap_rows_per_second", median(rates[0]))
	b.set("rewrap_engine_rows_per_second", median(rates[1]))
	b.set("update_rows_per_second", median(rates[4]))
	b.set("ratio_rewrap_vs_transit_batch", medianRatio(rates[0], rates[2]))
	b.set("ratio_rewrap_vs_transit_batch_pipelined", medianRatio(rates[0], rates[5]))
	b.set("ratio_rewrap_vs_transit_single", medianRatio(rates[0], rates[3]))
	b.set("ratio_rewrap_vs_transit_row_by_row", medianRatio(rates[0], rates[6]))
	b.set("ratio_rewrap_vs_update", medianRatio(rates[0], rates[4]))
	b.set("ratio_rewrap_engine_vs_transit_batch", medianRatio(rates[1], rates[2]))
	return nil
}

// tables starts PostgreSQL and fills the tables.
func (b *bench) tables(ctx context.Context) (*pgxpool.Pool, error) {
	server, err := postgres.Start(ctx)
	if err != nil {
		return nil, err
	}
	b.database = server
	db, err := pgxpool.New(ctx, fmt.Sprintf("%s pool_max_conns=%d", server.DSN(), connections+2))
	if err != nil {
		return nil, err
	}
	return db, b.once("the tables to rewrap", func() error { return b.fillTables(ctx, db) })
}

func (b *bench) fillTables(ctx context.Context, db *pgxpool.Pool) (err error) {
	t, err := b.inProcess(ctx, b.rewrapped())
	if err != nil {
		return err
	}
	if err := b.mountTransit(ctx); err != nil {
		return err
	}
	aead := t.AEAD()
	defer func() { err = errors.Join(err, aead.Close()) }()
	envelopes := func(context.Context) ([]string, error) {
		texts := make([]string, sweepBatch)
		for i := range texts {
			text, err := aead.Encrypt([]byte(floorplugin.Secret()), nil)
			if err != nil {
				return nil, err
			}
			texts[i] = string(text)
		}
		return texts, nil
	}
	encrypting := func(path string) func(context.Context) ([]string, error) {
		return func(ctx context.Context) ([]string, error) { return b.encryptMany(ctx, path) }
	}
	for _, table := range []struct {
		name string
		rows int
		make func(context.Context) ([]string, error)
	}{
		{envelopeTable, envelopeRows, envelopes},
		{engineTable, engineRows, encrypting(b.rewrapped().path() + "/encrypt")},
		{batchTable, batchRows, encrypting(transitMount + "/encrypt/bench")},
		{singleTable, singleRows, encrypting(transitMount + "/encrypt/bench")},
		{plainTable, plainRows, envelopes},
	} {
		if err := (sweptTable{db, table.name, b.sized(table.rows)}).fill(ctx, table.make); err != nil {
			return err
		}
	}
	return nil
}

// runDek rotates the tenant's key and has the command bring a table to the new version. It
// returns the rows a second, from the command's start to its end.
func (b *bench) runDek(ctx context.Context, table string, rows int) (float64, error) {
	if _, err := b.rotate(ctx, b.rewrapped()); err != nil {
		return 0, err
	}
	root, err := devstack.RepoRoot()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin", "dek"), "rewrap", "postgres", "--dsn", b.database.DSN(), // #nosec G204 G702 -- what make built
		"--table", table, "--column", "text", "--tenant", b.rewrapped().id, "--no-report")
	cmd.Env = []string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH"), "VAULT_ADDR=" + b.stack.VaultAddr(), "VAULT_TOKEN=" + b.stack.RootToken()}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("dek rewrap postgres: %w: %s", err, out)
	}
	if want := fmt.Sprintf("%d rewrapped, 0 current already, ", rows); !strings.HasPrefix(string(out), want) {
		return 0, fmt.Errorf("dek rewrap postgres did not rewrap %d rows: %s", rows, out)
	}
	return float64(rows) / took.Seconds(), nil
}
