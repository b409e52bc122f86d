// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package acceptance tests the plugin and the proxy from outside, on a real
// Vault server that internal/devstack starts. The tests have the build tag
// acceptance and need the binaries in bin/: `make test` sees to both.
//
// Contract tests share one stack in memory, each with a tenant of its own.
// Tests that stop, kill or restart something start a stack for themselves.
package acceptance
