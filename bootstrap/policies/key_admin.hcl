# key_admin: how often keys are rotated, nothing else.

path "@MOUNT@/key/rotationSettings" {
  capabilities = ["read", "create", "update", "patch"]
}
