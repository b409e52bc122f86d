// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// writeWhole lets write fill a file beside name, which takes the name when it is
// whole and on the disk. Until then, and if anything fails, name is as it was.
func writeWhole(name string, mode os.FileMode, replace bool, write func(*os.File) error) (err error) {
	if !replace {
		if _, err := os.Lstat(name); err == nil {
			return usage("%s is there already: --force replaces it", name)
		}
	}
	// A device must not give way to a file: /dev/null would be gone.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return usage("%s is no regular file, which could be replaced", name)
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".dek-*")
	var failed *os.PathError
	if errors.As(err, &failed) {
		return &os.PathError{Op: failed.Op, Path: name, Err: failed.Err}
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(naming(name, f.Name(), err), ignoreClosed(f.Close()), os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if replace {
		err = os.Rename(f.Name(), name)
	} else {
		err = moveTo(f.Name(), name)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// naming has a failure name the file that was asked for instead of the one beside it, which
// nobody has heard of and which is gone.
func naming(name, beside string, err error) error {
	var failed *os.PathError
	var moving *os.LinkError
	switch {
	case errors.As(err, &moving) && moving.Old == beside:
		return &os.PathError{Op: moving.Op, Path: name, Err: moving.Err}
	case errors.As(err, &failed) && failed.Path == beside:
		failed.Path = name // what it is wrapped in stays
	}
	return err
}

// moveTo gives a file another name, which must not be taken.
func moveTo(from, name string) error {
	// Unlike a rename a link replaces nothing.
	err := os.Link(from, name)
	if err == nil {
		return os.Remove(from)
	}
	if errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Rename(from, name) // a file system without links
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// syncDir makes a name last.
func syncDir(dir string) error {
	d, err := os.Open(dir) // #nosec G304 -- the directory of a file that the user names
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// rewrapWritten brings the first line of a file that was just written to the
// current version.
func rewrapWritten(ctx context.Context, t *client.Tenant, f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	line, err := client.ReadFirstLine(oneByte{f})
	if err != nil {
		return err
	}
	next, err := t.RewrapFirstLine(ctx, line)
	if err != nil {
		return err
	}
	if len(next) == len(line) {
		_, err = f.WriteAt([]byte(next), 0)
		return err
	}
	return replaceStart(f, next)
}

// replaceStart puts text in the place of what f has before its offset, by way of
// another file, as the two differ in length.
func replaceStart(f *os.File, text string) (err error) {
	rest, err := os.CreateTemp(filepath.Dir(f.Name()), ".dek-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rest.Close(), os.Remove(rest.Name())) }()
	if _, err := io.Copy(rest, f); err != nil {
		return err
	}
	for _, file := range []*os.File{f, rest} {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	_, err = io.Copy(f, rest)
	return err
}

// oneByte reads a file byte by byte, so that none is read ahead.
type oneByte struct{ r io.Reader }

func (o oneByte) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(o.r, b[:])
	return b[0], err
}
