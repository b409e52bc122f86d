// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package proxy answers the documented REST calls of two legacy families by
// translating them into requests to a Vault that runs the DEK secrets engine.
//
// It exists so that clients written against those documents keep working. It
// holds no key, no secret and no policy: who may do what is decided by Vault,
// and what a rotation is, by the engine. The proxy checks the form of a
// request, exchanges the caller's JWT for a Vault token, makes the one call
// that the request stands for, and puts the answer into the documented shape.
//
// Two families share the routes. Under /api/ callers present
// "Authorization: Bearer <JWT>" and get {"success", ...} envelopes; under
// /public/ and /saas/ they present INFA-SESSION-ID and get {"error": ...}
// objects. Neither family looks at the other's header.
//
// What it must never do: use a Vault token of its own, verify a JWT by itself
// and act on the result, write a token, JWT, header or body to a log, or repeat
// a write that carries no idempotency key.
package proxy
