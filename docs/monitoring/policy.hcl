# What Prometheus needs: the figures. Neither a tenant nor a key can be told from them.
path "dek/metrics" {
  capabilities = ["read"]
}

# So that the token lives as long as it is renewed: `vault token renew`, or Vault Agent,
# which looks it up first.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
