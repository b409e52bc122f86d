# application: what is kept and encrypted for one tenant, no administration.
#
# The tenant comes from the metadata of the alias that the last login through
# the JWT auth mount left behind (claim tenant_id). An alias without it matches
# no path here. It does not read the tenant's record, its key or its rotations:
# an application need not know of them.

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets" {
  capabilities = ["list"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}

# Writes of many items at once, of all three kinds.
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/items" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/encrypt" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/decrypt" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/rewrap" {
  capabilities = ["create", "update"]
}

# datakey/plaintext and datakey/wrapped
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/datakey/+" {
  capabilities = ["create", "update"]
}
