# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0

# Makes a Vault server ready for vault-plugin-dek, as bootstrap/bootstrap.sh does: the
# plugin, its mount, JWT logins, and the roles of bootstrap/policies. Use one or the
# other: what the script made, it alone should change.
#
# In a stack of its own: the provider for what is in the mount needs the mount.

terraform {
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 4.4"
    }
  }
}

locals {
  # The roles that hold for one tenant, the one of the claim tenant_id.
  bound_roles = ["security_admin", "key_importer", "application"]

  # What the issuer guarantees of these claims is in bootstrap/README.md.
  claims = {
    name      = "name"
    email     = "email"
    tenant_id = "tenant_id"
  }
}

resource "vault_plugin" "dek" {
  type    = "secret"
  name    = "vault-plugin-dek"
  command = var.plugin_command
  sha256  = var.plugin_sha256
  version = var.plugin_version
}

resource "vault_mount" "dek" {
  path           = var.mount
  type           = vault_plugin.dek.name
  plugin_version = vault_plugin.dek.version
  description    = "Data encryption keys of tenants, and their rotation"

  # Answers of 429 say when to send the request again.
  allowed_response_headers = ["Retry-After"]

  # A mount that is unmounted is gone with all keys, and with all that is encrypted
  # under them.
  lifecycle {
    prevent_destroy = true
  }
}
