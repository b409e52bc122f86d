# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0

# What is in the mount of one organization. The provider reads VAULT_ADDR and
# VAULT_TOKEN. docs/terraform.md says which of the roles may do what.

terraform {
  required_version = ">= 1.11"
  required_providers {
    dek = {
      source = "vault-plugin-dek/dek"
    }
  }
}

provider "dek" {
  mount = var.mount
}

variable "mount" {
  description = "Where the engine is mounted."
  type        = string
  default     = "dek"
}

variable "tenants" {
  description = "The tenants, by ID."
  type = map(object({
    name     = string
    interval = optional(string, "")
  }))
}

variable "owner" {
  description = "The Vault of an owner who lends a key of its transit engine."
  type = object({
    address    = string
    mount_path = string
    key_name   = string
  })
}

variable "owner_token" {
  description = "A token that may encrypt and decrypt with that key. It is neither in the state nor in plans."
  type        = string
  sensitive   = true
  ephemeral   = true
}

resource "dek_config" "this" {
  retired_key_retention = "30d"
  min_deletion_window   = "72h"
}

resource "dek_rotation_settings" "this" {
  rotation_interval = "90d"
}

resource "dek_tenant" "all" {
  for_each = var.tenants

  tenant_id         = each.key
  display_name      = each.value.name
  rotation_interval = each.value.interval

  # Restorable for so long after it was destroyed here.
  deletion_window = "14d"
}

# A place that keeps ciphertexts of each tenant, for those who encrypt in a table.
resource "dek_holder" "orders" {
  for_each = dek_tenant.all

  tenant_id    = each.key
  name         = "postgres.orders"
  description  = "The column orders.card"
  backups_kept = "30d"
}

resource "dek_key_provider" "owner" {
  name       = "owner"
  type       = "transit"
  parameters = var.owner
  timeout    = "1m"
  tenants    = ["*"]

  parameters_wo = { token = var.owner_token }

  # Raise it when the token changes.
  parameters_wo_version = "1"
}

data "dek_status" "this" {
  depends_on = [dek_tenant.all]
}

data "dek_rotation" "latest" {
  for_each = dek_tenant.all

  tenant_id = each.key
}

check "keys_are_rotated" {
  assert {
    condition     = data.dek_status.this.overdue == 0 && data.dek_status.this.rotations_failed == 0
    error_message = "There are overdue keys, or rotations that failed: see dek_status."
  }
}

output "rotations" {
  description = "How each tenant's latest rotation stands; empty: there was none."
  value       = { for id, r in data.dek_rotation.latest : id => r.status }
}
