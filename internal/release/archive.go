// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// File is a file of an archive.
type File struct {
	Name       string // slash-separated, relative
	Data       []byte
	Executable bool
	Dir        bool // a directory without its content; others need no entry
	Private    bool // nobody but the owner may enter the directory
}

var errName = errors.New("a file of an archive needs a clean relative name, once")

// mode returns the permissions, which do not depend on the umask of the machine.
func (f File) mode() int64 {
	switch {
	case f.Private:
		return 0o700
	case f.Executable || f.Dir:
		return 0o755
	default:
		return 0o644
	}
}

// Tar returns a tar archive of files, sorted by name, below prefix. The directories on
// the way to a file come before it.
func Tar(prefix string, files []File, modified time.Time) ([]byte, error) {
	entries, err := withDirectories(prefix, files)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range entries {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.Name, Size: int64(len(f.Data)), Mode: f.mode(),
			ModTime: modified.UTC(), Format: tar.FormatUSTAR,
		}
		if f.Dir {
			header.Typeflag, header.Name = tar.TypeDir, f.Name+"/"
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// withDirectories adds the directories that files lie in and puts prefix before all.
func withDirectories(prefix string, files []File) ([]File, error) {
	all := map[string]File{}
	for _, f := range files {
		if f.Name == "." || !fs.ValidPath(f.Name) {
			return nil, fmt.Errorf("%q: %w", f.Name, errName)
		}
		f.Name = path.Join(prefix, f.Name)
		if _, twice := all[f.Name]; twice {
			return nil, fmt.Errorf("%q: %w", f.Name, errName)
		}
		all[f.Name] = f
	}
	for _, f := range files {
		for dir := path.Dir(path.Join(prefix, f.Name)); dir != "."; dir = path.Dir(dir) {
			if there, ok := all[dir]; ok && !there.Dir {
				return nil, fmt.Errorf("%q is a file and a directory: %w", dir, errName)
			} else if !ok {
				all[dir] = File{Name: dir, Dir: true}
			}
		}
	}
	entries := make([]File, 0, len(all))
	for _, f := range all {
		entries = append(entries, f)
	}
	slices.SortFunc(entries, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

// Gzip compresses data. The header has neither a name nor a time.
func Gzip(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// TarGz is [Tar], compressed.
func TarGz(prefix string, files []File, modified time.Time) ([]byte, error) {
	data, err := Tar(prefix, files, modified)
	if err != nil {
		return nil, err
	}
	return Gzip(data)
}

// Read reads the files below root that match patterns of [filepath.Glob], under the names
// that they have there. A pattern that matches nothing is an error, so that a file which
// was moved is missed.
func Read(root string, patterns ...string) ([]File, error) {
	var files []File
	for _, pattern := range patterns {
		matches, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(matches) == 0 {
			return nil, fmt.Errorf("%s matches no file: %w", pattern, errors.Join(err, fs.ErrNotExist))
		}
		for _, match := range matches {
			info, err := os.Stat(match)
			if err != nil {
				return nil, err
			}
			data, err := os.ReadFile(match) //nolint:gosec // a file of the repository
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, match)
			if err != nil {
				return nil, err
			}
			files = append(files, File{Name: filepath.ToSlash(name), Data: data, Executable: info.Mode()&0o100 != 0})
		}
	}
	return files, nil
}
