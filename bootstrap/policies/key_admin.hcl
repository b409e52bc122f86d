# key_admin: how often keys are rotated, and the key-encryption key of the mount.

path "@MOUNT@/key/rotationSettings" {
  capabilities = ["read", "create", "update", "patch"]
}

path "@MOUNT@/kek" {
  capabilities = ["read"]
}

path "@MOUNT@/kek/rotate" {
  capabilities = ["create", "update"]
}
