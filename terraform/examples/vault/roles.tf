# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0

resource "vault_policy" "role" {
  for_each = var.roles

  name = "${var.name_prefix}${each.key}"
  policy = replace(
    replace(file("${path.module}/../../../bootstrap/policies/${each.key}.hcl"), "@MOUNT@", vault_mount.dek.path),
    "@JWT_ACCESSOR@", vault_jwt_auth_backend.jwt.accessor,
  )
}

# An external group for each value of the claim roles.
resource "vault_identity_group" "role" {
  for_each = var.roles

  name     = "${var.name_prefix}${each.key}"
  type     = "external"
  policies = [vault_policy.role[each.key].name]
}

resource "vault_identity_group_alias" "role" {
  for_each = var.roles

  name           = "${var.jwt_role_prefix}${each.key}"
  mount_accessor = vault_jwt_auth_backend.jwt.accessor
  canonical_id   = vault_identity_group.role[each.key].id
}
