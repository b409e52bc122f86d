# kek_admin: the keys above the tenants': key-encryption keys, the providers that hold
# them, the key that signs evidence, and the one that imported keys come under.

path "@MOUNT@/kek" {
  capabilities = ["read"]
}

path "@MOUNT@/kek/rotate" {
  capabilities = ["create", "update"]
}

# A tenant's own key-encryption key.
path "@MOUNT@/tenants/+/kek" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/kek/rotate" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/providers" {
  capabilities = ["list"]
}

path "@MOUNT@/providers/+" {
  capabilities = ["create", "read", "update", "delete"]
}

path "@MOUNT@/providers/+/check" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/wrapping_key" {
  capabilities = ["read"]
}

path "@MOUNT@/wrapping_key/rotate" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/evidence/key/rotate" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/evidence/witnesses" {
  capabilities = ["read", "create", "update"]
}
