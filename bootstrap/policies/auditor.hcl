# auditor: reads of everything but items, ciphertexts and data keys, whichever tenant,
# and the two writes of who checks the evidence. It changes nothing else.

path "@MOUNT@/config" {
  capabilities = ["read"]
}

path "@MOUNT@/key/rotationSettings" {
  capabilities = ["read"]
}

path "@MOUNT@/status" {
  capabilities = ["read"]
}

path "@MOUNT@/fleet" {
  capabilities = ["read"]
}

path "@MOUNT@/metrics" {
  capabilities = ["read"]
}

# Which key-encryption keys are in use, never the keys themselves.
path "@MOUNT@/kek" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/kek" {
  capabilities = ["read"]
}

# A public key.
path "@MOUNT@/wrapping_key" {
  capabilities = ["read"]
}

path "@MOUNT@/providers" {
  capabilities = ["list"]
}

path "@MOUNT@/providers/+" {
  capabilities = ["read"]
}

# The unfinished rotations of the whole mount.
path "@MOUNT@/rotations" {
  capabilities = ["list"]
}

path "@MOUNT@/tombstones" {
  capabilities = ["list"]
}

path "@MOUNT@/tombstones/+" {
  capabilities = ["read"]
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

path "@MOUNT@/tenants/+/dek/current" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/dek/rotations" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+/dek/rotations/+" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/holders" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+/holders/+" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/+/evidence" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/+/evidence/+" {
  capabilities = ["read"]
}

path "@MOUNT@/evidence/key" {
  capabilities = ["read"]
}

path "@MOUNT@/evidence/checkpoint" {
  capabilities = ["read"]
}

path "@MOUNT@/evidence/entries" {
  capabilities = ["list"]
}

path "@MOUNT@/evidence/entries/+" {
  capabilities = ["read"]
}

# The files of the transparency log: the checkpoint and the tiles, at any depth.
path "@MOUNT@/evidence/tlog/*" {
  capabilities = ["read"]
}

path "@MOUNT@/evidence/witnesses" {
  capabilities = ["read"]
}

path "@MOUNT@/evidence/people/+" {
  capabilities = ["read"]
}

# A checkpoint that was kept outside, compared; a witness's signature, added.
path "@MOUNT@/evidence/check" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/evidence/cosign" {
  capabilities = ["create", "update"]
}
