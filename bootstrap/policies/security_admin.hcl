# security_admin: the rotations of its own tenant, to a key of its own too, nothing
# else.
#
# The tenant comes from the metadata of the alias that the last login through
# the JWT auth mount left behind (claim tenant_id). An alias without it matches
# no path here but wrapping_key, which is public.
#
# Every path ends in a literal behind the template. A path that ended in the
# template itself would be any path that the claim spells: a tenant_id of
# "<tenant>/credentials/db" would read that item.

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek" {
  capabilities = ["read"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/rotate" {
  capabilities = ["create", "update"]
}

# To rotate to a key that the tenant's owner has made.
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/import" {
  capabilities = ["create", "update"]
}

# The public key under which such a key is wrapped: the mount's, made when it is
# first read.
path "@MOUNT@/wrapping_key" {
  capabilities = ["read"]
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
