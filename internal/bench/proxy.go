// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"net/http"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// proxyStatus compares the documented call for a rotation's status, with a JWT
// whose Vault token the proxy has cached, with the same question to Vault, with
// such a token.
func proxyStatus(ctx context.Context, b *bench) error {
	t := b.small()
	if err := b.fill(ctx, t); err != nil {
		return err
	}
	r, err := b.rotate(ctx, t)
	if err != nil {
		return err
	}
	jwt, err := b.stack.MintJWT(devstack.Claims{TenantID: t.id, Roles: []string{"security_admin"}})
	if err != nil {
		return err
	}
	token, err := b.stack.Login(ctx, jwt)
	if err != nil {
		return err
	}
	proxy := newClient(b.stack.ProxyURL(), http.Header{
		"Authorization": {"Bearer " + jwt}, "X-Tenantid": {t.id}, "Accept": {"application/json"},
	})
	vault := vaultClient(b.stack.VaultAddr(), token)
	get := func(c *client, path string) side {
		return b.requests(func(ctx context.Context, _ int) error {
			_, err := c.send(ctx, http.MethodGet, path, nil)
			return err
		})
	}
	rates, err := alternate(ctx, b.rounds(4),
		get(proxy, "/api/v1/admin/dek/rotate/"+r.id), get(vault, t.path()+"/dek/rotations/"+r.id))
	if err != nil {
		return err
	}
	b.set("proxy_status_requests_per_second", median(rates[0]))
	b.set("ratio_proxy_vs_vault", medianRatio(rates[0], rates[1]))
	return nil
}
