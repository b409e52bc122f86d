// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package token encrypts and decrypts a few bytes under AES keys of a PKCS#11 token.
//
// # Keys
//
// The keys are those of one label (CKA_LABEL). They differ in their ID (CKA_ID), which is
// read as a number: the highest encrypts, and every one decrypts what it encrypted. A new
// key of the label with a higher ID is a rotation. Nothing about keys is kept between
// calls, so that a key that its owner deletes, or disables, counts at once.
//
// # What is said of a key
//
// That a key is not there is said only in a session that is logged in, on a token that is
// still there: a session without login does not see private keys. [ErrDenied] and [ErrNoKey] mean
// that the owner of the key has withdrawn it. Whatever can mean anything else is
// [ErrUnavailable].
//
// # What it must never do
//
// Try a PIN again that the token has refused: a few such attempts lock the token. Put a PIN,
// or what is encrypted, into an error or a log.
package token
