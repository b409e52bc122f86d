// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// tenantAbsent fails if a request needs a tenant and there is none of that ID, or it is
// being deleted. Its restore path and its evidence are for tenants that are.
func (b *backend) tenantAbsent(ctx context.Context, req *logical.Request, tenantID string) error {
	place, rest, _ := strings.Cut(req.Path, "/"+tenantID+"/")
	switch place {
	case "tenants":
		if rest == "restore" || rest == "evidence" || strings.HasPrefix(rest, "evidence/") {
			return nil
		}
	case "data", "metadata", "subkeys", "delete", "undelete", "destroy":
	default:
		return nil // the tenant itself, say, which a write creates
	}
	_, err := b.tenants.Active(ctx, tenantID)
	if errors.Is(err, tenant.ErrNotFound) || errors.Is(err, tenant.ErrDeleting) {
		return err
	}
	return nil
}

// absentOf is tenantAbsent for a request that the framework has refused, since a field has a
// value of the wrong type: no handler has seen it. It refuses a caller as a handler would.
func (b *backend) absentOf(ctx context.Context, req *logical.Request) error {
	parts := strings.SplitN(req.Path, "/", 3)
	if len(parts) < 3 || !api.UUIDPattern.MatchString(parts[1]) {
		return nil
	}
	if err := b.checkCaller(req); err != nil {
		return err
	}
	if err := b.settings.CheckFormat(ctx); err != nil {
		return err
	}
	return b.tenantAbsent(ctx, req, parts[1])
}
