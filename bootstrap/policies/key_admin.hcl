# key_admin: how often keys are rotated, and whether they are.

path "@MOUNT@/key/rotationSettings" {
  capabilities = ["read", "create", "update", "patch"]
}

path "@MOUNT@/status" {
  capabilities = ["read"]
}

path "@MOUNT@/fleet" {
  capabilities = ["read"]
}
