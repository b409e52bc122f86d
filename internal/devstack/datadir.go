// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// prepareDataDir makes the data directory, readable by its owner alone, and
// takes it: two stacks on one directory would ruin each other's data.
func (s *Stack) prepareDataDir() error {
	dir := s.opts.DataDir
	if dir == "" {
		temp, err := os.MkdirTemp("", "dek-devstack-")
		if err != nil {
			return err
		}
		dir, s.tempDir = temp, true
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	// Vault wants its plugin directory without symbolic links in it.
	if s.opts.DataDir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	if err := s.lockDataDir(); err != nil {
		return err
	}
	for _, old := range []string{s.EnvPath(), s.LogPath("vault"), s.LogPath("proxy"), s.LogPath("bootstrap")} {
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("remove what an earlier run left: %w", err)
		}
	}
	return nil
}

// lockDataDir holds a lock that ends with this process, however it ends.
func (s *Stack) lockDataDir() error {
	f, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { // #nosec G115 -- a file descriptor
		_ = f.Close()
		return fmt.Errorf("%s is in use by another stack (%w)", s.opts.DataDir, err)
	}
	s.lock = f
	return nil
}

// WriteFile writes a file that only its owner reads, and puts it in place with
// a rename, so that whoever waits for it never sees half of it.
func WriteFile(path string, data []byte) error {
	temp := path + "." + rand.Text()[:8] + ".tmp"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return nil
}

// longestTempDir is how long the path of a directory for temporary files may be: a
// socket's path has at most 103 bytes on every system, and go-plugin's has some 20
// more than the directory's.
const longestTempDir = 80

// prepareSocketDir makes a directory with a short path where it is needed.
func (s *Stack) prepareSocketDir() error {
	if len(os.TempDir()) <= longestTempDir {
		return nil
	}
	dir, err := os.MkdirTemp("/tmp", "dek-")
	if err != nil {
		return fmt.Errorf("TMPDIR is too long a path for a socket: %w", err)
	}
	s.socketDir = dir
	return nil
}
