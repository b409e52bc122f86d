// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package api is what the engine's paths have in common: reading and checking the
// fields of requests, describing answers, and the one table that turns the engine's
// errors into HTTP's. Groups of paths that belong together have packages below it.
package api
