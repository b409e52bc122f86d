# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0

resource "vault_jwt_auth_backend" "jwt" {
  path                   = var.jwt_mount
  description            = "Logins for vault-plugin-dek"
  oidc_discovery_url     = var.jwt_oidc_discovery_url
  jwks_url               = var.jwt_jwks_url
  jwt_validation_pubkeys = var.jwt_validation_pubkeys
  bound_issuer           = var.jwt_issuer
  default_role           = var.jwt_role
}

# Batch tokens: a login writes no token to storage.
resource "vault_jwt_auth_backend_role" "login" {
  backend         = vault_jwt_auth_backend.jwt.path
  role_name       = var.jwt_role
  role_type       = "jwt"
  user_claim      = "sub"
  groups_claim    = "roles"
  bound_audiences = [var.jwt_audience]
  claim_mappings  = local.claims
  token_type      = "batch"
  token_ttl       = 900
}

# For each role that is bound to a tenant a login role of its own: it gives the one
# policy, and no group grows by its logins.
resource "vault_jwt_auth_backend_role" "bound" {
  for_each = setintersection(var.roles, local.bound_roles)

  backend           = vault_jwt_auth_backend.jwt.path
  role_name         = "${var.jwt_role}-${each.key}"
  role_type         = "jwt"
  user_claim        = "sub"
  bound_audiences   = [var.jwt_audience]
  claim_mappings    = local.claims
  bound_claims_type = "glob"
  bound_claims = {
    roles     = "${var.jwt_role_prefix}${each.key}"
    tenant_id = "*-*-*-*-*"
  }
  token_policies = [vault_policy.role[each.key].name]
  token_type     = "batch"
  token_ttl      = 900
}
