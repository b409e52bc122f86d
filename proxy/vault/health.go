// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"errors"
	"net/http"
)

// Health asks for Vault's seal state, without a token.
func (c *Client) Health(ctx context.Context) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	// sys/health answers in the root namespace only.
	sys := c.api.WithNamespace("").Sys()
	h, err := sys.HealthWithContext(ctx)
	if err != nil {
		return Health{}, answerError(ctx, nil, err)
	}
	health := Health{
		Initialized: h.Initialized, Sealed: h.Sealed, Standby: h.Standby,
		DRSecondary: h.ReplicationDRMode == "secondary", Version: h.Version,
	}
	if h.Standby && !h.Sealed {
		leader, err := sys.LeaderWithContext(ctx)
		if err != nil {
			return Health{}, answerError(ctx, nil, err)
		}
		health.Leaderless = leader.HAEnabled && leader.LeaderAddress == ""
	}
	return health, nil
}

// Serves makes the cheapest request that Vault puts into its audit log: where no
// audit device can be written, Vault answers every such request with an error, and
// its health does not show it. It needs no token. An answer that is no fault, or
// only says that there are too many requests, is good.
func (c *Client) Serves(ctx context.Context) error {
	err := c.read(ctx, "", "sys/internal/ui/mounts", nil)
	var refused *Error
	if errors.As(err, &refused) && refused.Status < http.StatusInternalServerError {
		return nil
	}
	return err
}
