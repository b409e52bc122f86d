# application: what is kept and encrypted for one tenant, no administration. It does not
# read the tenant's record, the states of its keys or its rotations.
#
# The tenant comes from the metadata of the alias that the last login through
# the JWT auth mount left behind (claim tenant_id). An alias without it matches
# no path here. Every path goes on with a literal behind the template: one that
# ended there would be any path that the claim spells.

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

# Many items at once, of all three kinds.
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/items" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/items/read" {
  capabilities = ["create", "update"]
}

# The same items as clients of KV version 2 ask for them.
path "@MOUNT@/data/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}

path "@MOUNT@/metadata/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials" {
  capabilities = ["list"]
}

path "@MOUNT@/metadata/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "@MOUNT@/subkeys/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials/*" {
  capabilities = ["read"]
}

path "@MOUNT@/delete/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/undelete/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/destroy/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/credentials/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/data/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}

path "@MOUNT@/metadata/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys" {
  capabilities = ["list"]
}

path "@MOUNT@/metadata/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "@MOUNT@/subkeys/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys/*" {
  capabilities = ["read"]
}

path "@MOUNT@/delete/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/undelete/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/destroy/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/apiKeys/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/data/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}

path "@MOUNT@/metadata/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets" {
  capabilities = ["list"]
}

path "@MOUNT@/metadata/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "@MOUNT@/subkeys/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets/*" {
  capabilities = ["read"]
}

path "@MOUNT@/delete/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/undelete/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets/*" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/destroy/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/secrets/*" {
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

# Which version is in use, and which are still decrypted.
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/current" {
  capabilities = ["read"]
}

# What a place that keeps ciphertexts still holds.
path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/holders/+/report" {
  capabilities = ["create", "update"]
}

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/holders/+/report/start" {
  capabilities = ["create", "update"]
}
