// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"sync"
	"testing"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// cluster is the engine that serves at present, over the disk that outlives it.
type cluster struct {
	t         *testing.T
	disk      *storagetest.Disk
	clock     *enginetest.JumpingClock
	scheduler *scheduler

	mu    sync.Mutex
	mount *enginetest.Mount
	ready chan struct{} // closed once mount serves
}

func newCluster(t *testing.T, seed uint64) *cluster {
	c := &cluster{t: t, disk: storagetest.NewDisk(), clock: new(enginetest.JumpingClock), scheduler: newScheduler(seed)}
	c.disk.Set("config", []byte(`{"min_deletion_window":0,"scheduler_jitter":0}`))
	c.start()
	return c
}

// start begins another process.
func (c *cluster) start() {
	m := enginetest.Conditions{Clock: c.clock.Now}.Open(c.t, c.disk, 0, storagetest.None)
	m.KeysMayStay, m.KeysMayGoEarly = true, true
	c.scheduler.rule(m.Storage)
	ready := make(chan struct{})
	c.mu.Lock()
	c.mount, c.ready = m, ready
	c.mu.Unlock()
	go func() {
		m.Start()
		close(ready)
	}()
}

// serving returns the engine that serves, once it does.
func (c *cluster) serving() *enginetest.Mount {
	c.mu.Lock()
	m, ready := c.mount, c.ready
	c.mu.Unlock()
	<-ready
	return m
}

// crash kills the plugin's process. Vault's cache stays.
func (c *cluster) crash() { c.replace(false) }

// failOver makes another node active, whose cache is empty. Writes of the old one that
// are under way may still be made before the new one begins.
func (c *cluster) failOver() {
	c.replace(true)
	c.disk.RestartVault()
}

func (c *cluster) replace(lands bool) {
	old := c.mount
	c.scheduler.abandon(old.Storage, lands)
	go old.Close()
	if lands {
		c.disk.RestartVault()
	}
	c.start()
}
