// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package vault is the proxy's client of one Vault: the few calls that documented
// requests stand for, and what Vault's refusals of them mean.
//
// It exists apart from the proxy so that everything that depends on Vault's and
// OpenBao's wire, such as which text of a 403 means what, is in one place. It knows
// nothing of the proxy's routes and answers.
//
// What it must never do: send a token other than the one that a call was given,
// repeat a call, or put a token, a JWT, a password or a URL into an error.
package vault
