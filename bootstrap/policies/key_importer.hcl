# key_importer: keys that the owner of its own tenant has made.
#
# The tenant comes from the metadata of the alias that the last login through
# the JWT auth mount left behind (claim tenant_id). An alias without it matches
# no path here but wrapping_key, which is public. Every path goes on with a literal behind the template: one that
# ended there would be any path that the claim spells.

path "@MOUNT@/tenants/{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}/dek/import" {
  capabilities = ["create", "update"]
}

# The public key under which such a key is wrapped: the mount's, made when it is
# first read.
path "@MOUNT@/wrapping_key" {
  capabilities = ["read"]
}
