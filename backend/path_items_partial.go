// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// listReadable lists what can be read, and says what cannot. Where there is neither the list
// is empty, of which Vault makes a 404.
func (b *backend) listReadable(ctx context.Context, t *tenant.Record, kind item.Kind, p api.Pagination) (*logical.Response, error) {
	names, unreadable, err := b.items.ReadableNames(ctx, t, kind, p.After, p.Limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 && len(unreadable) == 0 {
		return logical.ListResponse(nil), nil
	}
	if p.Limit == 0 && p.After == "" {
		slices.Sort(names)
	}
	resp := logical.ListResponse(names)
	if len(names) == 0 {
		// Not an empty list: of that Vault would make a 404 without unreadable.
		resp.Data["keys"] = nil
	}
	gaps := make([]map[string]any, 0, len(unreadable))
	for _, u := range unreadable {
		gaps = append(gaps, map[string]any{"place": u.Place, "reason": u.Reason})
	}
	resp.Data["unreadable"] = gaps
	if len(gaps) > 0 {
		resp.AddWarning(fmt.Sprintf("%d pages could not be read: items are missing from this list", len(gaps)))
	}
	return resp, nil
}
