// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"errors"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

// tenantClaim is the alias metadata that templated policies put into their paths.
const tenantClaim = "tenant_id"

var (
	errNoTenant  = api.Refuse(http.StatusForbidden, "this login's tenant_id is not a UUID in lower case: its policies could match other tenants")
	errOtherName = api.Refuse(http.StatusForbidden, "this login's name differs from its Vault identity's only in the case of letters: the identity may be another's")
)

// checkCaller refuses a caller whose Vault identity does not say reliably which
// tenant it belongs to:
//
//   - Templated policies put an alias's tenant_id into their paths. One that is no
//     UUID, such as "+", or holds a slash, makes them match other paths (Vault
//     before 2.0.1 and OpenBao before 2.6 take even wildcards).
//   - Vault finds an alias by its name with case folded, but updates the alias's
//     metadata only if the name is equal letter by letter. A caller whose name
//     differs in case has the metadata of another person.
//
// A request without an entity, such as root's, has no such policies.
func (b *backend) checkCaller(req *logical.Request) error {
	if req.EntityID == "" {
		return nil
	}
	entity, err := b.System().EntityInfo(req.EntityID)
	if err != nil {
		return errors.New("Vault does not say who the caller is") //nolint:staticcheck // a name
	}
	if entity == nil {
		return nil
	}
	exact, folded := false, false
	for _, a := range entity.Aliases {
		if id, named := a.Metadata[tenantClaim]; named && !api.UUIDPattern.MatchString(id) {
			return errNoTenant
		}
		exact = exact || strings.HasSuffix(req.DisplayName, "-"+a.Name)
		folded = folded || hasFoldedSuffix(req.DisplayName, "-"+a.Name)
	}
	if folded && !exact {
		return errOtherName
	}
	return nil
}

// hasFoldedSuffix is [strings.HasSuffix] with case folded.
func hasFoldedSuffix(s, suffix string) bool {
	runes, end := []rune(s), []rune(suffix)
	return len(runes) >= len(end) && strings.EqualFold(string(runes[len(runes)-len(end):]), suffix)
}

// initiator returns the identity of the caller. Tokens without an entity, such as
// root's, have a display name only.
func (b *backend) initiator(req *logical.Request) actor.Actor {
	if req.EntityID == "" {
		return actor.New(req.DisplayName, req.DisplayName, "")
	}
	id, name := req.EntityID, req.DisplayName
	entity, err := b.System().EntityInfo(req.EntityID)
	if err != nil || entity == nil {
		return actor.New(id, name, "")
	}
	if entity.Name != "" {
		name = entity.Name
	}
	alias := loginAlias(entity, req.DisplayName)
	if alias == nil {
		return actor.New(id, name, "")
	}
	if known := alias.Metadata["name"]; known != "" {
		name = known
	}
	return actor.New(alias.Name, name, alias.Metadata["email"])
}

// loginAlias is the alias that a request's token was logged in with: Vault's
// display names are the mount's name and the alias's.
func loginAlias(entity *logical.Entity, displayName string) *logical.Alias {
	var best *logical.Alias
	for _, a := range entity.Aliases {
		if strings.HasSuffix(displayName, "-"+a.Name) && (best == nil || len(a.Name) > len(best.Name)) {
			best = a
		}
	}
	if best == nil && len(entity.Aliases) > 0 {
		best = entity.Aliases[0]
	}
	return best
}
