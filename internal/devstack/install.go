// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// installPlugin copies the plugin to the plugin directory under a name that its
// content decides, as releases have their version in it. The file that Vault has
// registered stays: after a restart Vault starts that one, and the mount can be
// written, until bootstrap.sh moves it to the new one.
func (s *Stack) installPlugin() error {
	hash, err := fileSHA256(s.opts.PluginBin)
	if err != nil {
		return fmt.Errorf("install the plugin: %w", err)
	}
	if err := os.MkdirAll(s.pluginDir(), 0o700); err != nil {
		return err
	}
	s.pluginFile = filepath.Join(s.pluginDir(), pluginCmd+"_"+hash[:12])
	if installed, err := fileSHA256(s.pluginFile); err == nil && installed == hash {
		return nil
	}
	temp := s.pluginFile + ".tmp"
	if err := copyExecutable(temp, s.opts.PluginBin); err != nil {
		return fmt.Errorf("install the plugin: %w", err)
	}
	return os.Rename(temp, s.pluginFile)
}

// prunePlugins leaves the newest few of the plugins, and so the one that is
// registered now.
func (s *Stack) prunePlugins() error {
	const kept = 4
	files, err := filepath.Glob(filepath.Join(s.pluginDir(), pluginCmd+"*"))
	if err != nil {
		return err
	}
	ages := map[string]int64{}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		ages[file] = info.ModTime().UnixNano()
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(ages[b], ages[a]) })
	for _, file := range files[min(kept, len(files)):] {
		if file != s.pluginFile {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return err
}

// InstallPlugin puts the plugin of Options.PluginBin, as it is now, into the server's
// plugin directory, beside those that are there.
func (s *Stack) InstallPlugin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.installPlugin()
}

// PluginFile is the plugin that bootstrap.sh registers, in the server's plugin
// directory.
func (s *Stack) PluginFile() string { return s.pluginFile }

// VaultBin is the program of Vault's server, which is the vault command too.
func (s *Stack) VaultBin() string { return s.opts.VaultBin }

func (s *Stack) pluginDir() string { return s.path("plugins") }

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path) // #nosec G304 -- a binary the caller names
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

func copyExecutable(to, from string) error {
	src, err := os.Open(from) // #nosec G304 -- a binary the caller names
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700) // #nosec G302 G304 -- must be executable
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		_ = dst.Close()
		return err
	}
	return dst.Close()
}
