# super_admin: tenants and their rotations, whichever tenant, and the settings
# of the engine. It reads no tenant's items and encrypts nothing: those belong
# to the policies of applications.

path "@MOUNT@/config" {
  capabilities = ["read", "create", "update"]
}

path "@MOUNT@/key/rotationSettings" {
  capabilities = ["read", "create", "update", "patch"]
}

path "@MOUNT@/status" {
  capabilities = ["read"]
}

# The key-encryption key of the mount.
path "@MOUNT@/kek" {
  capabilities = ["read"]
}

path "@MOUNT@/kek/rotate" {
  capabilities = ["create", "update"]
}

# The unfinished rotations of the whole mount, and making many due at once.
path "@MOUNT@/rotations" {
  capabilities = ["list", "create", "update"]
}

path "@MOUNT@/tenants" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+" {
  capabilities = ["read", "create", "update", "delete"]
}

path "@MOUNT@/tenants/+/restore" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/+/dek" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/dek/config" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/+/dek/rotate" {
  capabilities = ["create", "update"]
}

# To rotate to a key that the tenant's owner has made, and the public key under
# which such a key is wrapped.
path "@MOUNT@/tenants/+/dek/import" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/wrapping_key" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/dek/rotations" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+/dek/rotations/+" {
  capabilities = ["read"]
}

# pause, resume, cancel, retry
path "@MOUNT@/tenants/+/dek/rotations/+/+" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/+/dek/versions/+/destroy" {
  capabilities = ["create", "update"]
}
