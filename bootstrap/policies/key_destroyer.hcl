# key_destroyer: what cannot be taken back, or lets it happen sooner: deleting tenants,
# destroying versions of keys, and the settings that hold them. It reads nothing of
# a tenant.

# How long keys and tenants are kept, among other settings.
path "@MOUNT@/config" {
  capabilities = ["read", "create", "update"]
}

path "@MOUNT@/tenants/+" {
  capabilities = ["delete"]
}

path "@MOUNT@/tenants/+/dek/versions/+/destroy" {
  capabilities = ["create", "update"]
}

# What is no longer decrypted, and whether keys go when no holder needs them.
path "@MOUNT@/tenants/+/dek/config" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/+/holders/+" {
  capabilities = ["delete"]
}

# Who a person in the evidence is.
path "@MOUNT@/evidence/people/+" {
  capabilities = ["delete"]
}
