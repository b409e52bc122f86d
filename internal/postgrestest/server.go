// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package postgrestest runs a PostgreSQL server for a test, on a Unix socket in a
// directory of its own. It stops with the test.
package postgrestest

import (
	"bytes"
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
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startWithin is how long a start may take, recovery after a kill included.
const startWithin = 60 * time.Second

// Server is a PostgreSQL server.
type Server struct {
	t          *testing.T
	bin, dir   string
	credential *syscall.Credential // of whom it runs as; nil: of this process
	cmd        *exec.Cmd
	ended      chan struct{}
	log        bytes.Buffer
	databases  int
}

// Start starts a server. Where there is no PostgreSQL the test is skipped, and
// fails under CI=true: scripts/postgres.sh installs it.
func Start(t *testing.T) *Server {
	t.Helper()
	bin, found := findBin()
	if !found {
		const missing = "PostgreSQL is missing (PGBIN, the PATH, /usr/lib/postgresql): run scripts/postgres.sh; this test did not run"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	dir, err := os.MkdirTemp("", "pg") // short: the path of a socket has 107 bytes at most
	s := &Server{t: t, bin: bin, dir: dir}
	t.Cleanup(s.stop)
	s.must(err)
	s.must(s.dropRoot())
	initdb := s.command("initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	out, err := initdb.CombinedOutput()
	if err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Restart()
	return s
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
func (s *Server) NewDatabase() string {
	s.t.Helper()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	conn, err := pgx.Connect(s.t.Context(), s.DSN())
	s.must(err)
	_, err = conn.Exec(s.t.Context(), "CREATE DATABASE "+name)
	s.must(errors.Join(err, conn.Close(s.t.Context())))
	return s.dsn(name)
}

// Kill kills the server with SIGKILL.
func (s *Server) Kill() {
	s.t.Helper()
	s.must(s.cmd.Process.Kill())
	<-s.ended
}

// Restart starts the server, after a kill too, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	deadline := time.Now().Add(startWithin)
	for {
		s.launch()
		for time.Now().Before(deadline) {
			if s.answers() {
				return
			}
			if s.gone() {
				break // processes of the one that was killed are still there
			}
		}
		if !time.Now().Before(deadline) {
			s.t.Fatalf("PostgreSQL does not start\n%s", s.log.String())
		}
	}
}

func (s *Server) launch() {
	s.t.Helper()
	cmd := s.command("postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=100")
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	s.must(cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed, or its log tells
		close(ended)
	}()
	s.cmd, s.ended = cmd, ended
}

func (s *Server) gone() bool {
	select {
	case <-s.ended:
		return true
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

func (s *Server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

func (s *Server) stop() {
	if s.cmd != nil {
		// SIGINT is PostgreSQL's fast shutdown.
		if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			s.t.Error(err)
		}
		<-s.ended
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Error(err)
	}
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
