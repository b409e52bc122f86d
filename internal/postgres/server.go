// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package postgres runs a PostgreSQL server for tests and benchmarks, on a Unix socket in
// a directory of its own, and never on a port.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/syncbuf"
)

// startWithin is how long a start may take, recovery after a kill included.
const startWithin = 60 * time.Second

// ErrMissing says that there is no PostgreSQL on this machine.
var ErrMissing = errors.New("PostgreSQL is missing (PGBIN, the PATH, /usr/lib/postgresql): run scripts/postgres.sh")

// Server is a PostgreSQL server.
type Server struct {
	bin, dir   string
	credential *syscall.Credential // of whom it runs as; nil: of this process
	cmd        *exec.Cmd
	ended      chan struct{}
	log        syncbuf.Buffer
	databases  int
}

// Start starts a server, or fails with [ErrMissing].
func Start(ctx context.Context) (_ *Server, err error) {
	bin, found := findBin()
	if !found {
		return nil, ErrMissing
	}
	dir, err := os.MkdirTemp("", "pg") // short: the path of a socket has 107 bytes at most
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if err := s.dropRoot(); err != nil {
		return nil, err
	}
	initdb := s.command("initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s, s.Restart(ctx)
}

// findBin is the directory that has postgres and initdb.
func findBin() (string, bool) {
	dirs := []string{os.Getenv("PGBIN")}
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well-formed
	slices.Reverse(debian)
	for _, dir := range append(dirs, debian...) {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil { // #nosec G703 -- PGBIN is the tester's own
			return dir, true
		}
	}
	return "", false
}

// dropRoot lets the server run as the user postgres, since it refuses to run as
// root.
func (s *Server) dropRoot() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid)) // #nosec G115 -- a user's ID
}

// Version is what the server's program says of its version.
func (s *Server) Version() (string, error) {
	out, err := s.command("postgres", "--version").Output()
	return string(out), err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) // #nosec G204 -- what findBin found
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	return cmd
}

// DSN is how pgx connects to the server.
func (s *Server) DSN() string { return s.dsn("postgres") }

func (s *Server) dsn(database string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=%s sslmode=disable", s.dir, database)
}

// NewDatabase creates an empty database, and returns how pgx connects to it.
func (s *Server) NewDatabase(ctx context.Context) (string, error) {
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name)
	return s.dsn(name), errors.Join(err, conn.Close(ctx))
}

// Kill kills the server with SIGKILL.
func (s *Server) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	<-s.ended
	return nil
}

// Restart starts the server, after a kill too, and waits until it answers.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, errors.New("PostgreSQL does not start"))
	defer cancel()
	for {
		if err := s.launch(); err != nil {
			return err
		}
		for ctx.Err() == nil {
			if s.answers(ctx) {
				return nil
			}
			if s.gone(ctx) {
				break // processes of the one that was killed are still there
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w\n%s", context.Cause(ctx), s.log.String())
		}
	}
}

func (s *Server) launch() error {
	cmd := s.command("postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=100")
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed, or its log tells
		close(ended)
	}()
	s.cmd, s.ended = cmd, ended
	return nil
}

func (s *Server) gone(ctx context.Context) bool {
	select {
	case <-s.ended:
		return true
	case <-ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

func (s *Server) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// Stop stops the server and removes its directory.
func (s *Server) Stop() error {
	var err error
	if s.cmd != nil {
		// SIGINT is PostgreSQL's fast shutdown.
		if err = s.cmd.Process.Signal(syscall.SIGINT); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		<-s.ended
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
