// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const modulePath = "github.com/vault-plugin-dek/vault-plugin-dek"

// complete fills in defaults and refuses what cannot work, before anything is
// started.
func (o *Options) complete() error {
	if o.Storage == "" {
		o.Storage = Inmem
	}
	if o.Storage != Inmem && o.Storage != Raft {
		return fmt.Errorf("storage %q: must be %q or %q", o.Storage, Inmem, Raft)
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	if err := o.findBinaries(); err != nil {
		return err
	}
	return forgetClientSettings()
}

// forgetClientSettings takes the user's settings of Vault's and OpenBao's clients
// out of this process: api.NewClient reads them whatever it is configured with, and
// one that does not parse, or a CA file that is not there, is an error of every
// client. VAULT_BIN names a program and stays.
func forgetClientSettings() error {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if isClientSetting(name) && name != "VAULT_BIN" {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func isClientSetting(name string) bool {
	return strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "BAO_")
}

func (o *Options) findBinaries() error {
	root, err := RepoRoot()
	if err != nil {
		return err
	}
	if o.VaultBin == "" && os.Getenv("VAULT_BIN") != "" {
		if o.VaultBin, err = exec.LookPath(os.Getenv("VAULT_BIN")); err != nil {
			return fmt.Errorf("VAULT_BIN: %w", err)
		}
	}
	needed := []struct {
		path       *string
		name, make string
	}{
		{&o.VaultBin, "vault", "make vault"},
		{&o.PluginBin, pluginCmd, "make build"},
		{&o.ProxyBin, "dek-proxy", "make build"},
	}
	for _, bin := range needed {
		if bin.name == "dek-proxy" && o.NoProxy {
			continue
		}
		if *bin.path == "" {
			*bin.path = filepath.Join(root, "bin", bin.name)
		}
		if _, err := os.Stat(*bin.path); err != nil {
			return fmt.Errorf("%s is missing, run %q: %w", bin.name, bin.make, err)
		}
		if *bin.path, err = filepath.Abs(*bin.path); err != nil {
			return err
		}
	}
	return nil
}

// RepoRoot is the directory of the repository's go.mod, looked for from the
// working directory upwards.
func RepoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod")) // #nosec G304 -- walks up from the working directory
		switch {
		case err == nil && isModule(data):
			return dir, nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the repository: no go.mod of " + modulePath + " above the working directory")
		}
		dir = parent
	}
}

func isModule(goMod []byte) bool {
	for line := range strings.Lines(string(goMod)) {
		if strings.TrimSpace(line) == "module "+modulePath {
			return true
		}
	}
	return false
}
