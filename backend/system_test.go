// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// changingSystem is of a node whose state changes.
type changingSystem struct {
	logical.StaticSystemView
	state consts.ReplicationState
}

func (c *changingSystem) ReplicationState() consts.ReplicationState { return c.state }

func TestStateIsReadAgainThoughTheClockWasSetBack(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sys := new(changingSystem)
	s := newSteadySystem(sys, func() time.Time { return now })
	require.Equal(t, consts.ReplicationState(0), s.ReplicationState())
	sys.state = consts.ReplicationPerformanceStandby
	now = now.Add(-time.Hour)
	s.ReplicationState()
	now = now.Add(2 * time.Second)
	require.Equal(t, consts.ReplicationPerformanceStandby, s.ReplicationState())
}
