// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/torchwood"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// readsInFlight bounds the files that are read from Vault at once.
const readsInFlight = 8

// ErrOtherLog says that the log does not go on from the one that was exported before.
var ErrOtherLog = errors.New("the log does not go on from the one that was exported before, which stays as it is")

func (env Env) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export DIR",
		Short: "Write the log to files that can be verified without Vault",
		Long: `Write the log to files, in the layout of tlog-tiles.

Again into the same directory it reads what is new. If the log there is not the
beginning of Vault's, storage went back or the log was rewritten: then nothing of the
export is replaced, and the command ends with 1.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := env.vault()
			if err != nil {
				return err
			}
			size, err := export(cmd.Context(), source, args[0])
			if err != nil {
				return err
			}
			return env.print(cmd.OutOrStdout(), map[string]any{"directory": args[0], "size": size}, "%s: %d entries", args[0], size)
		},
	}
}

// export writes a log to a directory. The checkpoint comes last: until then the export
// of before is whole.
func export(ctx context.Context, source verify.Source, dir string) (int64, error) {
	note, err := source.Read(ctx, verify.FileCheckpoint)
	if err != nil {
		return 0, err
	}
	checkpoint, err := evidence.ParseCheckpoint(note)
	if err != nil {
		return 0, err
	}
	old, err := os.ReadFile(filepath.Join(dir, verify.FileCheckpoint)) //nolint:gosec // the caller names it
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err := goesOn(old, checkpoint); err != nil {
		return 0, err
	}
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for _, tile := range tlog.NewTiles(torchwood.TileHeight, 0, checkpoint.N) {
		names := []string{torchwood.TilePath(tile)}
		if tile.L == 0 {
			bundle := tile
			bundle.L = -1
			names = append(names, torchwood.TilePath(bundle))
		}
		for _, name := range names {
			g.Go(func() error { return copyFile(groupCtx, source, dir, name) })
		}
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return checkpoint.N, finish(ctx, source, dir, note, old)
}

// goesOn reports ErrOtherLog for a checkpoint that cannot come after an older one.
func goesOn(old []byte, checkpoint *evidence.Checkpoint) error {
	if old == nil {
		return nil
	}
	before, err := evidence.ParseCheckpoint(old)
	switch {
	case err != nil:
		return err
	case before.Origin != checkpoint.Origin, before.N > checkpoint.N,
		before.N == checkpoint.N && before.Hash != checkpoint.Hash:
		return ErrOtherLog
	}
	return nil
}

// finish verifies what was written, before the checkpoint says that it is the log.
func finish(ctx context.Context, source verify.Source, dir string, note, old []byte) error {
	files, err := verify.Dir(dir)
	if err != nil {
		return err
	}
	keys, err := source.Read(ctx, verify.FileKeys)
	if err != nil {
		return err
	}
	overlay := &overlay{files: files, vault: source, dir: dir, own: map[string][]byte{
		verify.FileCheckpoint: note, verify.FileKeys: keys,
	}}
	result, err := verify.Log(ctx, overlay, verify.Options{VKeys: keysOf(keys), Kept: old})
	if err != nil {
		return err
	}
	for _, code := range []string{verify.CodeFork, verify.CodeWentBack, verify.CodeRoot, verify.CodeMissing, verify.CodeSignature} {
		if result.Has(code) {
			return fmt.Errorf("%w: %s", ErrOtherLog, result.Broken[0].Text)
		}
	}
	if err := writeFile(dir, verify.FileKeys, keys); err != nil {
		return err
	}
	switch cosigned, err := source.Read(ctx, verify.FileCosigned); {
	case err == nil:
		if err := writeFile(dir, verify.FileCosigned, cosigned); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return writeFile(dir, verify.FileCheckpoint, note)
}

// overlay is an export that is not finished: files as they are, the new checkpoint, and
// the checkpoints of new keys, which it fetches as they are asked for.
type overlay struct {
	files, vault verify.Source
	dir          string
	own          map[string][]byte
}

func (o *overlay) Read(ctx context.Context, name string) ([]byte, error) {
	if data, ours := o.own[name]; ours {
		return data, nil
	}
	data, err := o.files.Read(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(name) != "checkpoints" {
		return data, err
	}
	if data, err = o.vault.Read(ctx, name); err != nil {
		return nil, err
	}
	return data, writeFile(o.dir, name, data)
}

// copyFile writes a file of the log that is not there yet. None of them ever changes.
func copyFile(ctx context.Context, source verify.Source, dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
		return nil
	}
	data, err := source.Read(ctx, name)
	if err != nil {
		return err
	}
	return writeFile(dir, name, data)
}

// writeFile replaces a file as a whole.
func writeFile(dir, name string, data []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone already if all went well
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
