// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package crash shows that the engine survives a crash, a failed write and a write
// whose error hides its effect at every operation of storage: it runs each scenario
// once for every such point, and checks what is left.
package crash
