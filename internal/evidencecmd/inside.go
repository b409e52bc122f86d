// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"os"
	"path/filepath"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// isInside reports whether a file lies in a directory, by its path or where links lead to,
// or is another name of a checkpoint there. Whoever wrote the directory may have written it.
func isInside(file, dir string) bool {
	root, err := os.Stat(dir)
	if err != nil {
		return false
	}
	if isBelow(file, root) {
		return true
	}
	// What has no path, as a pipe, is outside.
	if target, err := filepath.EvalSymlinks(file); err == nil && isBelow(target, root) {
		return true
	}
	info, err := os.Stat(file)
	if err != nil {
		return false
	}
	names := []string{verify.FileCheckpoint, verify.FileCosigned}
	older, _ := os.ReadDir(filepath.Join(dir, "checkpoints")) // most exports have none
	for _, entry := range older {
		names = append(names, filepath.Join("checkpoints", entry.Name()))
	}
	for _, name := range names {
		if other, err := os.Stat(filepath.Join(dir, name)); err == nil && os.SameFile(info, other) {
			return true
		}
	}
	return false
}

// isBelow reports whether a path goes through a directory. It asks the file system, in
// which a directory may have several names.
func isBelow(path string, dir os.FileInfo) bool {
	at, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	for parent := filepath.Dir(at); ; parent = filepath.Dir(at) {
		if info, err := os.Stat(parent); err == nil && os.SameFile(info, dir) {
			return true
		}
		if parent == at {
			return false
		}
		at = parent
	}
}
