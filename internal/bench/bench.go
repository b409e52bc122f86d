// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/postgres"
)

const (
	// floorMount is where the floor backend is mounted, beside the engine.
	floorMount = "bench"
	// connections is how many clients read and write items at once.
	connections = 16
)

// bench is the running stack and what figures share.
type bench struct {
	*report
	stack *devstack.Stack
	vault *client
	scale float64
	dir   string
	ready map[string]bool // what once has done

	database *postgres.Server // nil until tables are rewrapped

	bytesPerItem float64 // of a page
	peakMB       float64 // of the engine's process, once a million items rotated
}

// newBench starts Vault on raft with the engine, the proxy and the floor.
func newBench(ctx context.Context, opts options, r *report) (*bench, error) {
	root, err := devstack.RepoRoot()
	if err != nil {
		return nil, err
	}
	// Not the system's temporary directory, which may be in memory.
	parent := filepath.Join(root, ".dev")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{report: r, scale: opts.scale, dir: dir, ready: map[string]bool{}}
	if err := b.start(ctx, opts); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) start(ctx context.Context, opts options) (err error) {
	b.notef("starting Vault on raft; a synced write of 4 KiB takes %s here", syncedWrite(b.dir))
	b.stack, err = devstack.Start(ctx, devstack.Options{
		Storage: devstack.Raft, DataDir: b.dir, LogLevel: "error", PluginBin: opts.plugin,
	})
	if err != nil {
		return err
	}
	b.vault = vaultClient(b.stack.VaultAddr(), b.stack.RootToken())
	b.bytesPerItem, err = floorplugin.PageBytesPerItem(ctx)
	if err != nil {
		return err
	}
	return b.mountFloor(ctx)
}

// close stops the stack and removes its data.
func (b *bench) close() error {
	var err error
	if b.stack != nil {
		err = b.stack.Stop()
	}
	if b.database != nil {
		err = errors.Join(err, b.database.Stop())
	}
	return errors.Join(err, os.RemoveAll(b.dir)) // #nosec G703 -- a directory made here
}

// once does what several sections need, the first time.
func (b *bench) once(what string, do func() error) error {
	if b.ready[what] {
		return nil
	}
	b.notef("preparing %s", what)
	took, err := timed(do)
	if err != nil {
		return fmt.Errorf("preparing %s: %w", what, err)
	}
	b.notef("prepared in %.1f s", took.Seconds())
	b.ready[what] = true
	return nil
}

// sized is a number of items, shrunk by the scale.
func (b *bench) sized(n int) int { return max(int(float64(n)*b.scale), 200) }

// rounds is how often sides are measured in turns.
func (b *bench) rounds(n int) int { return max(int(float64(n)*b.scale), 1) }

// round is how long one side of a comparison is measured at a time.
func (b *bench) round() time.Duration {
	const shortest = 300 * time.Millisecond
	return max(time.Duration(b.scale*float64(2*time.Second)), shortest)
}

// requests is the side of a comparison that sends requests for a round.
func (b *bench) requests(op func(context.Context, int) error) side {
	return func(ctx context.Context) (float64, error) {
		return closedLoop(ctx, connections, b.round(), op)
	}
}

// syncedWrite is the median time that the disk takes to make a small write
// durable, which says more of it than its name.
func syncedWrite(dir string) string {
	const tries = 50
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	var took []float64
	for range tries {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return err.Error()
		}
		if err := f.Sync(); err != nil {
			return err.Error()
		}
		took = append(took, time.Since(began).Seconds()*1000)
	}
	return format(median(took)) + " ms"
}

// isStatus reports whether err is an answer with that code.
func isStatus(err error, code int) bool {
	var status *statusError
	return errors.As(err, &status) && status.code == code
}

// notThere turns the answer of a path that does not exist into errNotThere.
func notThere(err error) error {
	if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusMethodNotAllowed) {
		return errNotThere
	}
	return err
}
