// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

// sweepBatch is how many rows are read, changed and written at a time: as many as dek
// rewrap takes.
const sweepBatch = 1000

// sweptTable is a table with an id and a text, and so many rows.
type sweptTable struct {
	db   *pgxpool.Pool
	name string
	rows int
}

// fill creates the table. makeTexts makes a batch of texts.
func (t sweptTable) fill(ctx context.Context, makeTexts func(context.Context) ([]string, error)) error {
	if _, err := t.db.Exec(ctx, "CREATE TABLE "+t.name+" (id bigint PRIMARY KEY, text text NOT NULL)"); err != nil {
		return err
	}
	for from := 0; from < t.rows; from += sweepBatch {
		texts, err := makeTexts(ctx)
		if err != nil {
			return err
		}
		texts = texts[:min(len(texts), t.rows-from)]
		_, err = t.db.CopyFrom(ctx, pgx.Identifier{t.name}, []string{"id", "text"},
			pgx.CopyFromSlice(len(texts), func(i int) ([]any, error) { return []any{int64(from + i + 1), texts[i]}, nil }))
		if err != nil {
			return err
		}
	}
	return nil
}

// rowsRead is a batch of rows.
type rowsRead struct {
	ids   []int64
	texts []string
}

// change makes the texts that take the place of others.
type change func(ctx context.Context, texts []string) ([]string, error)

// sweep changes every text, by primary key, and only where the old text is still there. It
// returns the rows a second. As in a plain loop a batch is changed, then written, but the
// next is read meanwhile.
func (t sweptTable) sweep(ctx context.Context, change change) (float64, error) {
	return t.sweepBy(ctx, 1, func(ctx context.Context, batch rowsRead) (int64, error) {
		texts, err := change(ctx, batch.texts)
		if err != nil {
			return 0, err
		}
		return t.write(ctx, batch, texts)
	})
}

// sweepPipelined is sweep as dek rewrap does it: a batch is changed while others are
// written, two at once.
func (t sweptTable) sweepPipelined(ctx context.Context, change change) (float64, error) {
	var changing sync.Mutex
	return t.sweepBy(ctx, 3, func(ctx context.Context, batch rowsRead) (int64, error) {
		changing.Lock()
		texts, err := change(ctx, batch.texts)
		changing.Unlock()
		if err != nil {
			return 0, err
		}
		return t.write(ctx, batch, texts)
	})
}

// sweepBy has so many workers do batches, and checks that no row is left out.
func (t sweptTable) sweepBy(ctx context.Context, workers int, do func(context.Context, rowsRead) (int64, error)) (float64, error) {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan rowsRead, 1)
	g.Go(func() error {
		defer close(batches)
		return t.read(ctx, batches)
	})
	var written atomic.Int64
	for range workers {
		g.Go(func() error {
			for batch := range batches {
				n, err := do(ctx, batch)
				if err != nil {
					return err
				}
				written.Add(n)
			}
			return nil
		})
	}
	err := g.Wait()
	if n := int(written.Load()); err == nil && n != t.rows {
		err = fmt.Errorf("%d rows of %d were changed", n, t.rows)
	}
	return float64(t.rows) / time.Since(began).Seconds(), err
}

// write writes a batch in one statement.
func (t sweptTable) write(ctx context.Context, batch rowsRead, texts []string) (int64, error) {
	done, err := t.db.Exec(ctx, "UPDATE "+t.name+" t SET text = n.new FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n(id, old, new)"+
		" WHERE t.id = n.id AND t.text = n.old", batch.ids, batch.texts, texts)
	return done.RowsAffected(), err
}

// sweepRowByRow makes a call and an update for each row, over as many connections as other
// figures have, as a program does that knows of no batches.
func (t sweptTable) sweepRowByRow(ctx context.Context, change func(ctx context.Context, text string) (string, error)) (float64, error) {
	return t.sweepBy(ctx, 1, func(ctx context.Context, batch rowsRead) (int64, error) {
		var written atomic.Int64
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(connections)
		for i, text := range batch.texts {
			g.Go(func() error {
				next, err := change(ctx, text)
				if err != nil {
					return err
				}
				done, err := t.db.Exec(ctx, "UPDATE "+t.name+" SET text = $3 WHERE id = $1 AND text = $2", batch.ids[i], text, next)
				written.Add(done.RowsAffected())
				return err
			})
		}
		err := g.Wait()
		return written.Load(), err
	})
}

func (t sweptTable) read(ctx context.Context, batches chan<- rowsRead) error {
	var after int64
	for {
		rows, err := t.db.Query(ctx, "SELECT id, text FROM "+t.name+" WHERE id > $1 ORDER BY id LIMIT $2", after, sweepBatch)
		if err != nil {
			return err
		}
		var batch rowsRead
		var id int64
		var text string
		_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
			batch.ids, batch.texts = append(batch.ids, id), append(batch.texts, text)
			return nil
		})
		if err != nil || len(batch.ids) == 0 {
			return err
		}
		after = id
		select {
		case batches <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// encryptMany has the engine or transit encrypt a batch of secrets.
func (b *bench) encryptMany(ctx context.Context, path string) ([]string, error) {
	entries := make([]map[string]string, sweepBatch)
	for i := range entries {
		entries[i] = map[string]string{"plaintext": base64.StdEncoding.EncodeToString([]byte(floorplugin.Secret()))}
	}
	return b.askBatch(ctx, path, entries)
}

// transitBatch has transit rewrap texts in one request.
func (b *bench) transitBatch(ctx context.Context, texts []string) ([]string, error) {
	entries := make([]map[string]string, len(texts))
	for i, text := range texts {
		entries[i] = map[string]string{"ciphertext": text}
	}
	return b.askBatch(ctx, transitMount+"/rewrap/bench", entries)
}

// askBatch sends a batch and returns the ciphertexts that are answered.
func (b *bench) askBatch(ctx context.Context, path string, entries []map[string]string) ([]string, error) {
	var answer struct {
		Results []struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"batch_results"`
	}
	if err := b.vault.call(ctx, http.MethodPost, path, map[string]any{"batch_input": entries}, &answer); err != nil {
		return nil, err
	}
	if len(answer.Results) != len(entries) {
		return nil, fmt.Errorf("%s answered %d of %d entries", path, len(answer.Results), len(entries))
	}
	texts := make([]string, len(entries))
	for i, result := range answer.Results {
		texts[i] = result.Ciphertext
	}
	return texts, nil
}

// transitSingle has transit rewrap texts with a request each, over as many connections as
// other figures have. They are written in batches.
func (b *bench) transitSingle(ctx context.Context, texts []string) ([]string, error) {
	out := make([]string, len(texts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for i, text := range texts {
		g.Go(func() (err error) {
			out[i], err = b.transitOne(ctx, text)
			return err
		})
	}
	return out, g.Wait()
}

// transitOne has transit rewrap one text.
func (b *bench) transitOne(ctx context.Context, text string) (string, error) {
	var answer struct {
		Ciphertext string `json:"ciphertext"`
	}
	err := b.vault.call(ctx, http.MethodPost, transitMount+"/rewrap/bench", map[string]string{"ciphertext": text}, &answer)
	return answer.Ciphertext, err
}

// otherTexts returns texts of the same lengths.
func otherTexts(_ context.Context, texts []string) ([]string, error) {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = text[1:] + text[:1]
	}
	return out, nil
}
