// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// stateFor bounds how long a replication state is kept. When it changes for
// good, Vault sets the engine up anew.
const stateFor = time.Second

// steadySystem remembers what the framework asks Vault for at every request, over
// gRPC, though it hardly ever changes.
type steadySystem struct {
	logical.SystemView
	now        func() time.Time
	localMount func() bool

	mu    sync.Mutex
	state consts.ReplicationState
	at    time.Time
}

func newSteadySystem(v logical.SystemView, now func() time.Time) *steadySystem {
	return &steadySystem{SystemView: v, now: now, localMount: sync.OnceValue(v.LocalMount)}
}

// LocalMount reports whether the mount is local, which never changes.
func (s *steadySystem) LocalMount() bool { return s.localMount() }

// ReplicationState returns a state that is at most a second old.
func (s *steadySystem) ReplicationState() consts.ReplicationState {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A clock that was set back says nothing about how old it is.
	if now := s.now(); s.at.IsZero() || now.Before(s.at) || now.Sub(s.at) >= stateFor {
		s.state, s.at = s.SystemView.ReplicationState(), now
	}
	return s.state
}

// forget has the state asked for anew.
func (s *steadySystem) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Time{}
}
