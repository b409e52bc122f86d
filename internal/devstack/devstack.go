// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package devstack starts a real Vault server with the plugin, the proxy, the
// roles of bootstrap/ and JWTs to log in with. make dev, make demo, the
// benchmarks and the acceptance tests share it, so all of them run what an
// operator would.
//
// Everything listens on loopback without TLS and the unseal key lies beside
// the data: it is for development and tests, never for data of value. A stack
// takes what it started with it when it ends, however it ends: Stop ends the
// processes, and a guard process does if this one is killed.
package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/vault/api"
)

// Names of what the stack sets up in Vault. The defaults of bootstrap.sh are
// the same.
const (
	Mount     = "dek"
	JWTMount  = "jwt"
	JWTRole   = "dek"
	Realm     = "default"
	pluginCmd = "vault-plugin-dek"
)

// Storage says where Vault keeps its data.
type Storage string

// Inmem loses everything when Vault stops; Raft survives it.
const (
	Inmem Storage = "inmem"
	Raft  Storage = "raft"
)

// Options says what to start. The zero value is a stack in memory on free
// ports, with the binaries in the repository's bin/.
type Options struct {
	Storage Storage
	// DataDir holds configuration, logs, the plugin directory and, with Raft,
	// Vault's data, its unseal key and root token. A stack started again on it
	// goes on with them. Empty means a temporary directory that Stop removes.
	DataDir string
	// VaultPort and ProxyPort are TCP ports on 127.0.0.1; 0 takes a free one.
	VaultPort, ProxyPort int
	// VaultBin, PluginBin and ProxyBin are paths to the binaries. Empty means
	// bin/ of the repository; VaultBin looks at VAULT_BIN first.
	VaultBin, PluginBin, ProxyBin string
	// NoProxy leaves the proxy out, for what needs the engine alone.
	NoProxy bool
	// LogLevel is Vault's, the plugin's and the proxy's; empty means info.
	LogLevel string
	// Log gets a line for every step. Nil discards them.
	Log io.Writer
}

// Stack is a running Vault with plugin and proxy. Its methods may be called
// from several goroutines; those that stop or start a process take turns.
type Stack struct {
	opts    Options
	tempDir bool
	lock    *os.File
	ports   ports
	guard   *guard
	signer  *signer
	client  *api.Client
	creds   credentials

	mu    sync.Mutex // held while processes start and stop
	vault *process
	proxy *process
}

// Start brings the stack up and returns when the proxy and the engine answer.
// If anything fails, or ctx ends first, it stops what it started. The stack
// outlives ctx.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	s := &Stack{opts: opts}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	if err := s.opts.complete(); err != nil {
		return err
	}
	if err := s.prepareDataDir(); err != nil {
		return err
	}
	var err error
	if s.guard, err = startGuard(s.removable()); err != nil {
		return err
	}
	if s.signer, err = loadSigner(s.path("jwt-key.pem")); err != nil {
		return err
	}
	if err := s.installPlugin(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.startVaultOnFreePorts(ctx); err != nil {
		return err
	}
	if err := s.initAndUnseal(ctx); err != nil {
		return err
	}
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	if s.opts.NoProxy {
		return nil
	}
	return s.startProxy(ctx)
}

// Stop ends every process of the stack and removes a temporary data directory.
// It may be called more than once.
func (s *Stack) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy.terminate()
	s.vault.terminate()
	s.guard.release()
	s.vault, s.proxy, s.guard = nil, nil, nil
	var err error
	if dir := s.removable(); dir != "" {
		err = os.RemoveAll(dir)
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
		s.lock = nil
	}
	return err
}

// DataDir is where configuration, logs and data are.
func (s *Stack) DataDir() string { return s.opts.DataDir }

// LogPath is the log file of "vault" (which has the plugin's lines too),
// "proxy" or "bootstrap".
func (s *Stack) LogPath(process string) string { return s.path(process + ".log") }

func (s *Stack) path(name string) string { return filepath.Join(s.opts.DataDir, name) }

// removable is the data directory if it is the stack's to remove.
func (s *Stack) removable() string {
	if s.tempDir {
		return s.opts.DataDir
	}
	return ""
}

func (s *Stack) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.opts.Log, format+"\n", args...)
}
