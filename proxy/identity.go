// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// contractRoles are the values of the roles claim that bootstrap.sh gives policies to.
var contractRoles = []string{
	"security_admin", "super_admin", "key_admin", "kek_admin",
	"key_destroyer", "key_importer", "application", "auditor",
}

// errContradicted means that Vault takes the caller for somebody else than the JWT
// says. The reason is for the log, and names no value.
var errContradicted = errors.New("vault knows the caller otherwise than the JWT says")

func contradiction(reason string) error { return fmt.Errorf("%w: %s", errContradicted, reason) }

// verify makes sure that Vault knows the caller by the very subject and tenant of the
// JWT. Vault finds an alias by a name whose case it has folded, and then keeps the
// metadata, and with it the tenant, of the user whose name it was first; and it
// overwrites the metadata if the same subject logs in for another tenant.
func verify(ctx context.Context, r *realm, token vault.Token, c *claims) error {
	alias, err := r.vault.Identify(ctx, token.Value, token.EntityID)
	var refused *vault.Error
	switch {
	case errors.Is(err, vault.ErrNoAlias):
		return contradiction(err.Error())
	case errors.As(err, &refused) && refused.Status < 500 && !isUnavailable(refused.Status) && refused.Status != 429:
		return contradiction("it does not let the caller read what it knows, as the default policy does")
	case err != nil:
		return err
	case alias.Name != c.user(r.userClaim):
		return contradiction("the name of the alias is not the " + r.userClaim + " claim letter by letter")
	case alias.Metadata["tenant_id"] != c.tenant:
		return contradiction("the tenant_id of the alias is not the claim's")
	}
	return nil
}

// foldedRole reports whether a role is one of the contract's in another spelling:
// Vault finds groups by a folded name too, so that "Auditor" counts as "auditor".
func foldedRole(role, prefix string) bool {
	return slices.ContainsFunc(contractRoles, func(known string) bool {
		known = prefix + known
		lower := strings.ToLower(known) // which EqualFold does not fold a dotted I to
		return role != known && (strings.EqualFold(role, known) || strings.ToLower(role) == lower)
	})
}

// print is a hash of what a JWT says of the caller that decides what Vault allows.
// Two JWTs of one entity with different prints contradict each other.
func (c *claims) print(userClaim string) tokenKey {
	roles := slices.Clone(c.roles)
	slices.Sort(roles)
	// Strings and lists of strings can always be encoded.
	raw, _ := json.Marshal([]any{c.user(userClaim), c.tenant, slices.Compact(roles)})
	return sha256.Sum256(raw)
}

// user is the claim that Vault takes for the user's name, empty if it is no string.
func (c *claims) user(claim string) string {
	var name string
	if json.Unmarshal(c.payload[claim], &name) != nil {
		return ""
	}
	return name
}
