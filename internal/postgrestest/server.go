// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package postgrestest runs a PostgreSQL server for a test. It stops with the test.
package postgrestest

import (
	"errors"
	"os"
	"testing"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/postgres"
)

// Server is a PostgreSQL server, whose failures are the test's.
type Server struct {
	t      *testing.T
	server *postgres.Server
}

// Start starts a server. Where there is no PostgreSQL the test is skipped, and fails under
// CI=true: scripts/postgres.sh installs it.
func Start(t *testing.T) *Server {
	t.Helper()
	server, err := postgres.Start(t.Context())
	if errors.Is(err, postgres.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skip(err.Error() + "; this test did not run")
	}
	s := &Server{t, server}
	s.must(err)
	version, err := server.Version()
	s.must(err)
	compatibility.Ran(t, "PostgreSQL", compatibility.VersionIn([]byte(version)), false)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// DSN is how pgx connects to the server.
func (s *Server) DSN() string { return s.server.DSN() }

// NewDatabase creates an empty database, and returns how pgx connects to it.
func (s *Server) NewDatabase() string {
	s.t.Helper()
	dsn, err := s.server.NewDatabase(s.t.Context())
	s.must(err)
	return dsn
}

// Kill kills the server with SIGKILL.
func (s *Server) Kill() {
	s.t.Helper()
	s.must(s.server.Kill())
}

// Restart starts the server, after a kill too, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.must(s.server.Restart(s.t.Context()))
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
