# auditor: the state of keys and rotations of every tenant, and the settings. It
# reads no item, opens no ciphertext and changes nothing.

path "@MOUNT@/config" {
  capabilities = ["read"]
}

path "@MOUNT@/key/rotationSettings" {
  capabilities = ["read"]
}

path "@MOUNT@/status" {
  capabilities = ["read"]
}

# Which key-encryption key is in use, never the key itself.
path "@MOUNT@/kek" {
  capabilities = ["read"]
}

# The unfinished rotations of the whole mount.
path "@MOUNT@/rotations" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/dek" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/dek/rotations" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+/dek/rotations/+" {
  capabilities = ["read"]
}
