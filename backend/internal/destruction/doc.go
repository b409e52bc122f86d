// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package destruction ends the keys of a tenant's versions: a retired page key once its
// retention has passed ([Engine.DestroyRetired]), a version that a caller names
// ([Engine.DestroyVersion]), and for package rotation the keys that a rotation leaves
// ([Engine.Destroy]). It also keeps the least version whose ciphertexts are opened.
//
// The key entries are deleted first, then one Put of the tenant's record says so and
// carries the events. If the process dies in between, whatever destroys the key next, or
// the end of the next rotation, does both again.
//
// Every page is scanned before: without the lock, which may take long, and what came
// since once more under the tenant's exclusive lock.
//
// # What it must never do
//
// Destroy a key while a page may be on it, or something outside depends on it, unless
// forced. Destroy the active version, or one of an unfinished rotation.
package destruction
