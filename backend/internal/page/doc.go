// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package page has the sealed format of a page and of its delta: a clear header, and a
// sealed table of slots with the items behind it. docs/formats.md describes it byte by
// byte. The package is pure: it knows neither storage nor locks.
//
// A page lies at a [Prefix] of the bits of its items' hashes. The hash is keyed by the
// tenant's placement key, so a prefix says nothing about a name. Tenant, incarnation,
// prefix and header are associated data: a page that was moved, or whose header was
// changed, does not open.
//
// It must never return items of a page that did not open, and never put a name into an
// error.
package page
