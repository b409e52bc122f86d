// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/syncbuf"
)

// TestDekUnderKills is the command dek while Vault is killed with SIGKILL and started
// again; what else is killed each part says.
func TestDekUnderKills(t *testing.T) {
	s := start(t, devstack.Options{Storage: devstack.Raft, NoProxy: true})
	// Keys end soon, for the parts to see it. The mount has no tenant, so the window counts at
	// once. A retention of more than 0 is looked at once a minute.
	write(t, s, "dek/config", map[string]any{
		"retired_key_retention": cmp.Or(os.Getenv("REWRAP_RETENTION"), "0s"), "data_key_lease": "5s", "min_deletion_window": 0, "rotation_parallelism": 1,
	})
	d := buildDek(t)
	t.Run("following a rotation", func(t *testing.T) { testFollowing(t, s, dekProgram{t: t, path: d.path}) })
	t.Run("rewrapping a table", func(t *testing.T) { testRewrapping(t, s, dekProgram{t: t, path: d.path}) })
}

// running is a command that was started.
type running struct {
	t         *testing.T
	cmd       *exec.Cmd
	out, errs *syncbuf.Buffer
	ended     chan struct{}
}

// begin starts a command line as root.
func (d dekProgram) begin(s *devstack.Stack, args ...string) *running {
	d.t.Helper()
	r := &running{d.t, d.command(s, s.RootToken(), args...), new(syncbuf.Buffer), new(syncbuf.Buffer), make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.errs
	require.NoError(d.t, r.cmd.Start())
	go func() {
		_ = r.cmd.Wait() // its state says how it ended
		close(r.ended)
	}()
	return r
}

// hasEnded reports whether the command has ended by now.
func (r *running) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// signal sends a signal, and returns the exit code, -1 if the signal killed it.
func (r *running) signal(signal os.Signal) int {
	r.t.Helper()
	if err := r.cmd.Process.Signal(signal); !errors.Is(err, os.ErrProcessDone) {
		require.NoError(r.t, err)
	}
	<-r.ended
	return r.cmd.ProcessState.ExitCode()
}

// tells waits until the output has a text.
func (r *running) tells(o *syncbuf.Buffer, text string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return strings.Contains(o.String(), text) }, goneLimit, rotationTick, text)
}

// rotate --wait outlasts a restart of Vault, and follows the rotation to its end.
// status --watch shows the fleet before and after, and ends well when it is interrupted.
func testFollowing(t *testing.T, s *devstack.Stack, d dekProgram) {
	tenant, err := clientAs(t, s, s.RootToken()).Tenant(newTenant(t, s))
	require.NoError(t, err)
	items := make([]client.BulkItem, 5000)
	for i := range items {
		items[i] = client.BulkItem{Kind: client.Secrets, Name: fmt.Sprint(i), ItemWrite: client.ItemWrite{Data: map[string]any{"v": strings.Repeat("x", 500)}}}
	}
	_, err = tenant.WriteItems(t.Context(), items)
	require.NoError(t, err)
	watching := d.begin(s, "status", "--watch", "--interval", "50ms", "-json")
	watching.tells(watching.out, `"tenants":`)

	var rotating *running
	var id string
	for id == "" { // a rotation that ends before it can be paused is followed by the next
		rotating = d.begin(s, "rotate", "--wait", "-json", tenant.ID(), "--reason", "a test")
		for id == "" && !rotating.hasEnded() {
			id = pauseLatest(t, tenant)
		}
	}
	rotating.tells(rotating.out, `"status":"paused"`)
	s.KillVault()
	rotating.tells(rotating.errs, "; waiting")
	require.NoError(t, s.RestartVault(t.Context()))
	looks := func() int { return strings.Count(watching.out.String(), `"tenants":`) }
	before := looks()
	require.Eventually(t, func() bool { return looks() > before }, goneLimit, rotationTick)
	assert.Equal(t, 0, watching.signal(os.Interrupt), watching.errs)
	require.Eventually(t, func() bool {
		_, err := tenant.ResumeRotation(t.Context(), id)
		return err == nil
	}, goneLimit, rotationTick)
	<-rotating.ended
	require.Equal(t, 0, rotating.cmd.ProcessState.ExitCode(), rotating.errs)
	lines := strings.Split(strings.TrimSpace(rotating.out.String()), "\n")
	var last client.Rotation
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	assert.Equal(t, []any{id, client.Completed, "a test"}, []any{last.ID, last.Status, last.Reason})
}

// pauseLatest pauses the tenant's unfinished rotation, and returns its ID, empty if there
// is none.
func pauseLatest(t *testing.T, tenant *client.Tenant) string {
	t.Helper()
	history, err := tenant.Rotations(t.Context(), client.Page{Limit: 1})
	require.NoError(t, err)
	for _, id := range history {
		if r, err := tenant.PauseRotation(t.Context(), id); err == nil && r.Status == client.Paused {
			return id
		}
	}
	return ""
}
