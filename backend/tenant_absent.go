// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

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
