// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/postgrestest"
)

// rewrapSize is a size of the test, by REWRAP_ROWS, REWRAP_KILLS or REWRAP_WORKERS.
func rewrapSize(t *testing.T, name string, small int) int {
	t.Helper()
	text := os.Getenv("REWRAP_" + name)
	if text == "" {
		return small
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// rewrapping is the command on the table, and what is killed beside it.
type rewrapping struct {
	*cards
	s          *devstack.Stack
	d          dekProgram
	db         *postgrestest.Server
	args       []string
	checkpoint string
	now        *running
}

func (r *rewrapping) scanned() int64 {
	var c struct{ Progress client.Progress }
	text, err := os.ReadFile(r.checkpoint)
	if err != nil || json.Unmarshal(text, &c) != nil {
		return 0
	}
	return c.Progress.Scanned
}

// awaitMore waits until the command has done more than before, or all of it. One that has
// ended has left a tenant without old texts, so the key is rotated for the next.
func (r *rewrapping) awaitMore(before int64, rotate func()) {
	t := r.d.t
	if r.now == nil {
		r.now = r.d.begin(r.s, r.args...)
	}
	require.Eventually(t, func() bool { return r.now.hasEnded() || r.scanned() != before }, 2*rotationLimit, rotationTick)
	if !r.now.hasEnded() {
		return
	}
	require.Equal(t, 0, r.now.cmd.ProcessState.ExitCode(), r.now.errs)
	rotate()
	r.now = r.d.begin(r.s, r.args...)
	require.Eventually(t, func() bool { return r.scanned() > 0 }, 2*rotationLimit, rotationTick)
}

// kill kills the command, PostgreSQL or Vault, in turns.
func (r *rewrapping) kill(turn int) {
	switch turn % 3 {
	case 0:
		r.now.signal(os.Kill)
		r.now = nil
	case 1:
		r.db.Kill()
		r.db.Restart()
	default:
		r.s.KillVault()
		require.NoError(r.d.t, r.s.RestartVault(r.d.t.Context()))
	}
}

// testRewrapping rewraps a table while workers write and read it, and the command,
// PostgreSQL and Vault are killed in turns. No row is lost, every row opens whenever it is
// read, none is left below the new version, and the external keys of the old ones are
// destroyed by themselves.
func testRewrapping(t *testing.T, s *devstack.Stack, d dekProgram) {
	rows, kills, workers := rewrapSize(t, "ROWS", 3000), rewrapSize(t, "KILLS", 3), rewrapSize(t, "WORKERS", 4)
	server := postgrestest.Start(t)
	db, err := pgxpool.New(t.Context(), server.DSN())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	tenant, err := clientAs(t, s, s.RootToken()).Tenant(newTenant(t, s))
	require.NoError(t, err)
	_, err = tenant.WriteHolder(t.Context(), "cards", client.HolderSettings{})
	require.NoError(t, err)
	require.NoError(t, tenant.FollowHolders(t.Context(), true))
	c := &cards{t: t, aead: tenant.AEAD(), db: db, rows: rows, may: map[int][]string{}}
	defer func() { assert.NoError(t, c.aead.Close()) }()
	began := time.Now()
	c.fill()
	t.Logf("%d rows are filled in after %s", rows, time.Since(began))
	version := 1
	rotate := func() { // and wait until the lease of what seals under the old version is over
		version = rotateAndWait(t, tenant).NewVersion
		require.Eventually(t, func() bool {
			text, err := c.aead.Encrypt([]byte("x"), nil)
			is, _ := client.VersionOf(string(text))
			return err == nil && is == version
		}, rotationLimit, rotationTick)
	}
	rotate()
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	r := &rewrapping{cards: c, s: s, d: d, db: server, checkpoint: checkpoint, args: []string{
		"rewrap", "postgres", "--dsn", server.DSN(), "--table", "cards", "--column", "number", "--tenant", tenant.ID(),
		"--associated-data-column", "id", "--checkpoint", checkpoint, "--batch", strconv.Itoa(min(rows/60, client.DefaultBatch)),
		"--rate", strconv.Itoa(rows / (2 * kills)),
	}}
	stop := c.work(workers)
	defer stop()
	began = time.Now()
	for turn := range kills {
		r.awaitMore(r.scanned(), rotate)
		r.kill(turn)
	}
	r.awaitMore(r.scanned(), rotate)
	<-r.now.ended
	require.Equal(t, 0, r.now.cmd.ProcessState.ExitCode(), r.now.errs)
	took := time.Since(began)
	stop()
	began = time.Now()
	code, out, errs := d.run(s, s.RootToken(), r.args[:len(r.args)-2]...) // a lease after the rotation
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, "reported that nothing is below version "+strconv.Itoa(version))
	for old := 1; old < version; old++ {
		awaitNoExternalKey(t, tenant, old)
	}
	t.Logf("the old external keys are destroyed %s after the last report began", time.Since(began))
	c.check(version)
	t.Logf("%d rows, %d kills, %d versions in %s: %d writes, %d reads beside it", rows, kills, version, took, c.writes.Load(), c.reads.Load())
}

// awaitNoExternalKey waits until the external key of a version is destroyed by itself.
func awaitNoExternalKey(t *testing.T, tenant *client.Tenant, version int) {
	t.Helper()
	require.Eventually(t, func() bool {
		key, err := tenant.Key(t.Context())
		require.NoError(t, err)
		for _, v := range key.Versions {
			if v.Version == version {
				return v.ExternalKeyDestroyedAt != nil
			}
		}
		return true // it is no longer listed
	}, 2*rotationLimit, 10*rotationTick, "version %d", version)
}
