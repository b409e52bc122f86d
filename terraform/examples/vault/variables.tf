# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0

variable "plugin_command" {
  description = "The plugin's file in the server's plugin_directory, on every node."
  type        = string
  default     = "vault-plugin-dek_v0.1.0"
}

variable "plugin_sha256" {
  description = "The SHA-256 of that file, from the release's SHA256SUMS or sha256sum."
  type        = string
}

variable "plugin_version" {
  description = "The version that the plugin reports."
  type        = string
  default     = "v0.1.0"
}

variable "mount" {
  description = "Where the engine is mounted. One mount is one organization."
  type        = string
  default     = "dek"
}

variable "roles" {
  description = "The roles to set up. key_importer is left out unless keys are to be imported."
  type        = set(string)
  default     = ["security_admin", "super_admin", "key_admin", "kek_admin", "key_destroyer", "application", "auditor"]
}

variable "name_prefix" {
  description = "What is put before the names of policies and groups. A second mount on one Vault needs another."
  type        = string
  default     = "dek-"
}

variable "jwt_mount" {
  description = "Where JWTs log in."
  type        = string
  default     = "jwt"
}

variable "jwt_role" {
  description = "The login role."
  type        = string
  default     = "dek"
}

variable "jwt_role_prefix" {
  description = "What is put before the names that the claim roles must hold, where others fill that claim too."
  type        = string
  default     = ""
}

# One of the next three says where the keys are that JWTs are verified with.

variable "jwt_oidc_discovery_url" {
  description = "An issuer with OIDC discovery."
  type        = string
  default     = null
}

variable "jwt_jwks_url" {
  description = "A JWKS address."
  type        = string
  default     = null
}

variable "jwt_validation_pubkeys" {
  description = "Public keys in PEM."
  type        = list(string)
  default     = null
}

variable "jwt_issuer" {
  description = "What the claim iss must be."
  type        = string
}

variable "jwt_audience" {
  description = "What the claim aud must contain."
  type        = string
  default     = "vault-plugin-dek"
}
