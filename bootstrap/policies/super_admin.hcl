# super_admin: tenants and their rotations, whichever tenant. It reads no item, encrypts
# nothing and destroys nothing: deletions are key_destroyer's.

path "@MOUNT@/tenants" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+" {
  capabilities = ["read", "create", "update"]
}

path "@MOUNT@/tenants/+/restore" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tombstones" {
  capabilities = ["list"]
}

path "@MOUNT@/tombstones/+" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/dek" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/dek/rotate" {
  capabilities = ["create", "update"]
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

# The unfinished rotations of the whole mount, and making many due at once.
path "@MOUNT@/rotations" {
  capabilities = ["list", "create", "update"]
}

path "@MOUNT@/fleet" {
  capabilities = ["read"]
}

path "@MOUNT@/status" {
  capabilities = ["read"]
}

path "@MOUNT@/key/rotationSettings" {
  capabilities = ["read", "create", "update", "patch"]
}

path "@MOUNT@/providers" {
  capabilities = ["list"]
}

path "@MOUNT@/providers/+" {
  capabilities = ["read"]
}
