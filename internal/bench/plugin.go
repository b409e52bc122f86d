// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const (
	enginePlugin = "vault-plugin-dek"
	floorPlugin  = "dek-bench-floor"
	ownBinary    = "dek-bench"
)

// mountFloor has Vault run this program as a plugin too, beside the engine.
func (b *bench) mountFloor(ctx context.Context) error {
	if err := b.installSelf(); err != nil {
		return fmt.Errorf("installing the floor plugin: %w", err)
	}
	if err := b.register(ctx, floorPlugin, "", floorplugin.FloorArg); err != nil {
		return fmt.Errorf("registering the floor plugin: %w", err)
	}
	return b.vault.post(ctx, "sys/mounts/"+floorMount, map[string]any{"type": floorPlugin})
}

func (b *bench) ownPath() string { return filepath.Join(b.stack.DataDir(), "plugins", ownBinary) }

// installSelf copies this program into the plugin directory.
func (b *bench) installSelf() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self) // #nosec G304 -- this program
	if err != nil {
		return err
	}
	return os.WriteFile(b.ownPath(), program, 0o700) // #nosec G306 G703 -- must be executable
}

// register tells Vault's catalog of this program as a plugin, which is started with args.
func (b *bench) register(ctx context.Context, name, version string, args ...string) error {
	program, err := os.ReadFile(b.ownPath()) // #nosec G703 -- what installSelf put there
	if err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	return b.vault.post(ctx, "sys/plugins/catalog/secret/"+name, map[string]any{
		"sha256": hex.EncodeToString(sum[:]), "command": ownBinary, "args": args, "version": version,
	})
}

// mountLoader mounts the loader where the engine is to be.
func (b *bench) mountLoader(ctx context.Context, mount string) error {
	if err := b.register(ctx, enginePlugin, floorplugin.LoaderVersion, floorplugin.LoaderArg); err != nil {
		return err
	}
	return b.vault.post(ctx, "sys/mounts/"+mount, map[string]any{
		"type": enginePlugin, "config": map[string]any{"plugin_version": floorplugin.LoaderVersion},
	})
}

// finishLoading stores what was loaded and has the engine take over.
func (b *bench) finishLoading(ctx context.Context, mount string) error {
	if err := b.vault.post(ctx, mount+"/flush", nil); err != nil {
		return err
	}
	return b.moveToEngine(ctx, mount)
}

// moveToEngine has a mount run what the stack's own mount runs.
func (b *bench) moveToEngine(ctx context.Context, mount string) error {
	var own struct {
		Version string `json:"plugin_version"`
	}
	if err := b.vault.call(ctx, http.MethodGet, "sys/mounts/"+devstack.Mount, nil, &own); err != nil {
		return err
	}
	err := b.vault.post(ctx, "sys/mounts/"+mount+"/tune", map[string]any{"plugin_version": own.Version})
	if err != nil {
		return err
	}
	return b.vault.post(ctx, "sys/plugins/reload/backend", map[string]any{"mounts": mount + "/"})
}
