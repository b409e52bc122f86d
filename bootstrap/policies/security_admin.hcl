# security_admin: the rotations of its own tenant, and where its ciphertexts lie. It reads no
# item, imports no key and destroys nothing.
#
# The tenant comes from the metadata of the alias that the last login through
# the JWT auth mount left behind (claim tenant_id). An alias without it matches
# no path here. Every path goes on with a literal behind the template: one that
# ended there would be any path that the claim spells.

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/rotate" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/rotations" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/rotations/+" {
  capabilities = ["read"]
}

# pause, resume, cancel, retry
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/rotations/+/+" {
  capabilities = ["create", "update"]
}

# The places that keep ciphertexts of the tenant. Deleting one is key_destroyer's.
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/holders" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/holders/+" {
  capabilities = ["create", "read", "update"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/evidence" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/evidence/+" {
  capabilities = ["read"]
}

# Which key-encryption key its keys are under, never the key itself.
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/kek" {
  capabilities = ["read"]
}
