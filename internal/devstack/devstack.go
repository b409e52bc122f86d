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
	"os"
	"path/filepath"
	"sync"
)

// Names of what the stack sets up in Vault. The defaults of bootstrap.sh are
// the same.
const (
	Mount     = "dek"
	JWTMount  = "jwt"
	JWTRole   = "dek"
	Realm     = "default"
	pluginCmd = "vault-plugin-dek"

	// roles are all there are; bootstrap.sh leaves key_importer out by default.
	roles = "security_admin super_admin key_admin kek_admin key_destroyer key_importer application auditor"
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
	// DataDir holds configuration, logs, the plugin directory, the key pair for
	// JWTs and, with Raft, Vault's data, its unseal key and root token. A stack
	// started again on it goes on with them. Empty means a temporary directory
	// that Stop removes.
	DataDir string
	// VaultPort and ProxyPort are TCP ports on 127.0.0.1; 0 takes a free one.
	VaultPort, ProxyPort int
	// VaultBin, PluginBin and ProxyBin are paths to the binaries. Empty means
	// bin/ of the repository; VaultBin looks at VAULT_BIN first.
	VaultBin, PluginBin, ProxyBin string
	// NoProxy leaves the proxy out, for what needs the engine alone.
	NoProxy bool
	// NamePrefix is put before the names of policies and groups in Vault. Empty, they
	// are the roles'; in production bootstrap.sh puts dek- there.
	NamePrefix string
	// ProviderSockets is the directory of the sockets of key providers of type kmsv2;
	// empty: there are none.
	ProviderSockets string
	// LogLevel is Vault's, the plugin's and the proxy's; empty means info.
	LogLevel string
	// RawStorage lets the root token see the storage entries themselves, under
	// sys/raw, for tests that look for what must be gone.
	RawStorage bool

	nodeID string // names a node of a Cluster
}

// Stack is a running Vault with plugin and proxy. Its methods may be called
// from several goroutines; those that stop or start a process take turns.
type Stack struct {
	opts    Options
	tempDir bool
	// socketDir is for the sockets between Vault and the plugin, if the user's
	// directory for temporary files has too long a path for one.
	socketDir  string
	pluginFile string // the plugin that bootstrap.sh registers
	lock       *os.File
	ports      ports
	guard      *guard
	signer     *signer
	creds      credentials
	member     bool // of a Cluster: it need not be the active node to be up

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
	if err := s.prepare(); err != nil {
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

// prepare does all that comes before the first process.
func (s *Stack) prepare() error {
	if err := s.opts.complete(); err != nil {
		return err
	}
	if err := s.prepareDataDir(); err != nil {
		return err
	}
	var err error
	if err := s.prepareSocketDir(); err != nil {
		return err
	}
	if s.guard, err = startGuard(s.ephemeral()); err != nil {
		return err
	}
	if s.signer, err = loadSigner(s.path("jwt-key.pem")); err != nil {
		return err
	}
	return s.installPlugin()
}

// Stop ends every process of the stack and removes a temporary data directory.
// It may be called more than once.
func (s *Stack) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.lock != nil { // else the directory is someone else's
		err = os.RemoveAll(s.EnvPath())
	}
	s.proxy.terminate()
	s.vault.terminate()
	s.guard.release()
	s.vault, s.proxy, s.guard = nil, nil, nil
	if s.lock != nil {
		for _, path := range s.ephemeral() {
			err = errors.Join(err, os.RemoveAll(path))
		}
		err = errors.Join(err, s.lock.Close())
		s.lock = nil
	}
	return err
}

// Alive is nil while Vault and the proxy run, and else says which has ended by
// itself, with the end of its log.
func (s *Stack) Alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range []*process{s.vault, s.proxy} {
		if p != nil && !p.running() {
			return p.failure(errors.New(p.name + " has stopped"))
		}
	}
	return nil
}

// PIDs are the processes that the stack runs: Vault, the plugin and the proxy.
func (s *Stack) PIDs() ([]int, error) {
	pids, err := s.PluginPIDs()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range []*process{s.vault, s.proxy} {
		if p.running() {
			pids = append(pids, p.pid())
		}
	}
	return pids, nil
}

// DataDir is where configuration, logs and data are.
func (s *Stack) DataDir() string { return s.opts.DataDir }

// SocketDir is where the plugin's sockets are, empty if that is the user's directory
// for temporary files.
func (s *Stack) SocketDir() string { return s.socketDir }

// LogPath is the log file of "vault" (which has the plugin's lines too),
// "proxy" or "bootstrap".
func (s *Stack) LogPath(process string) string { return s.path(process + ".log") }

// LogTail is the end of that log, to be shown when something failed.
func (s *Stack) LogTail(process string) string { return logTail(s.LogPath(process)) }

func (s *Stack) path(name string) string { return filepath.Join(s.opts.DataDir, name) }

// EnvPath is where a command that leaves the stack running may write how to
// reach it. Start and Stop remove the file: while it is there, so is the stack.
func (s *Stack) EnvPath() string { return s.path("env") }

// ephemeral is what must not outlive the stack: a temporary data directory, or
// the file that says the stack is there, and the directory for sockets.
func (s *Stack) ephemeral() []string {
	paths := []string{s.EnvPath()}
	if s.tempDir {
		paths[0] = s.opts.DataDir
	}
	if s.socketDir != "" {
		paths = append(paths, s.socketDir)
	}
	return paths
}
