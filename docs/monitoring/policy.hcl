# What Prometheus needs: the figures, and nothing else. Neither a tenant nor a key can be
# told from them.
path "dek/metrics" {
  capabilities = ["read"]
}
