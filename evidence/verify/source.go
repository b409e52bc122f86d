// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Names of the files of a log, beside those of tlog-tiles: checkpoint, tile/….
const (
	// FileCheckpoint is the signed note of all entries.
	FileCheckpoint = "checkpoint"
	// FileKeys has the verifier keys that the log names itself, one a line, the present
	// one first. They vouch for nothing.
	FileKeys = "keys"
	// FileCosigned is the greatest checkpoint that all witnesses signed, if there is one.
	FileCosigned = "cosigned"
)

// FileCheckpointOf is the signed note as of a size: where a new key was introduced.
func FileCheckpointOf(size int64) string { return fmt.Sprintf("checkpoints/%d", size) }

// A Source has the files of a log. It reports [fs.ErrNotExist] for one that it lacks.
type Source interface {
	Read(ctx context.Context, name string) ([]byte, error)
}

// Dir is the source of a directory that an export wrote.
func Dir(path string) (Source, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err // which names the path
	}
	return fsSource{root.FS()}, nil
}

// FS is the source of a file system.
func FS(files fs.FS) Source { return fsSource{files} }

type fsSource struct{ files fs.FS }

func (s fsSource) Read(_ context.Context, name string) ([]byte, error) {
	return fs.ReadFile(s.files, name)
}

// optional reads a file that need not be there.
func optional(ctx context.Context, s Source, name string) ([]byte, error) {
	data, err := s.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
