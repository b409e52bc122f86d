// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"net/http"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// userLogout is POST /saas/public/core/v3/logout. A session that is a Vault token is
// revoked at Vault. One that is a JWT cannot be taken back from those who hold it:
// the token that it was exchanged for is, where Vault can revoke it, and this proxy
// does not take the JWT again.
func (p *Proxy) userLogout(w http.ResponseWriter, r *http.Request) error {
	caller, err := p.authenticate(r)
	if err != nil {
		return err
	}
	err = p.call(r.Context(), caller, func(ctx context.Context, token string) error {
		return caller.realm.vault.Revoke(ctx, token)
	})
	if caller.jwt != "" {
		p.tokens.end(caller.realm.key(), caller.jwt, caller.token)
		// A batch token ends by itself, soon.
		var ve *vault.Error
		if errors.As(err, &ve) && ve.Status == http.StatusBadRequest {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
