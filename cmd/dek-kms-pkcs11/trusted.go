// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	writable = 0o022
	sticky   = os.ModeSticky
)

// trustedPath fails if a user other than root and this process's own can replace what a
// path names: a directory above it is another's, or others may write to it.
func trustedPath(path string) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, end := range []string{path, resolved} {
		for dir := filepath.Dir(end); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir) // #nosec G703 -- it is looked at, since the operator named it
			if err != nil {
				return err
			}
			if err := trustedOwner(dir, info); err != nil {
				return err
			}
			if info.Mode()&writable != 0 && info.Mode()&sticky == 0 {
				return fmt.Errorf("others can write to %s", dir)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

func trustedOwner(path string, info os.FileInfo) error {
	is, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s cannot be told", path)
	}
	if owner := int(is.Uid); owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user", path)
	}
	return nil
}

// trustedDir fails unless path is a directory that only root and this process's user can
// write to.
func trustedDir(path string) error {
	if err := trustedPath(path); err != nil {
		return err
	}
	info, err := os.Stat(path) // #nosec G703 -- it is looked at, since the operator named it
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	if info.Mode()&writable != 0 {
		return fmt.Errorf("others can write to %s", path)
	}
	return trustedOwner(path, info)
}

// trustedFile fails unless path is a file that only root and this process's user can write
// to.
func trustedFile(path string) error {
	if err := trustedPath(path); err != nil {
		return err
	}
	info, err := os.Stat(path) // #nosec G703 -- it is looked at, since the operator named it
	if err != nil {
		return err
	}
	return trustedRegular(path, info)
}

func trustedRegular(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode()&writable != 0 {
		return fmt.Errorf("others can write to %s", path)
	}
	return trustedOwner(path, info)
}
