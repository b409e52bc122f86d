# security_admin: the rotations of its own tenant, nothing else.
#
# The tenant comes from the metadata of the alias that the last login through
# the JWT auth mount left behind (claim tenant_id). An alias without it matches
# no path here.

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}" {
  capabilities = ["read"]
}

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
