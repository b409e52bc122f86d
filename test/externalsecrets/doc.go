// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package externalsecrets runs the Vault provider of the External Secrets Operator, as
// the operator's controllers call it, against a mount of the engine and one of Vault's
// KV version 2, and compares what the two answer. Kubernetes is a fake client that holds
// the token. There is no code here but tests.
package externalsecrets
