// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// JumpingClock is a clock that jumps, and knows of nothing else.
type JumpingClock struct{ by atomic.Int64 }

// Now returns the time, ahead by the sum of all jumps.
func (c *JumpingClock) Now() time.Time { return time.Now().Add(time.Duration(c.by.Load())).Round(0) }

// Jump sets the clock ahead, or back if by is negative.
func (c *JumpingClock) Jump(by time.Duration) { c.by.Add(int64(by)) }

// Engine returns an engine by this clock on the disk of w; it has not been started.
func (c *JumpingClock) Engine(w *Oracle) *Mount {
	m := Conditions{Clock: c.Now}.Open(w.T, w.Disk, 0, storagetest.None)
	m.KeysMayStay = true
	return m
}

// OnJumpingClock is an oracle of a tenant with items, whose engine has a clock that jumps.
func OnJumpingClock(t *testing.T) (*Oracle, *JumpingClock) {
	t.Helper()
	clock := new(JumpingClock)
	w := NewOracle(NewMount(t))
	w.Close()
	w = w.On(clock.Engine(w))
	w.Start()
	Slowly(w.Mount)
	w.Must(Update, "config", map[string]any{"scheduler_jitter": 0})
	w.Create()
	w.Bulk(25, 3000)
	return w, clock
}

// Tick is what Vault does every minute.
func (m *Mount) Tick() {
	_, _ = m.Call(logical.RollbackOperation, "", nil)
	Advance(time.Minute)
}
