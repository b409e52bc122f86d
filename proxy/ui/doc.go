// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package ui is the administrators' page: HTML made on the server, for people with a
// browser.
//
// It has no rights of its own. Every call of the engine is made with the token of
// whoever has signed in, and what sys/capabilities-self does not allow is not offered.
// An action that is requested anyway goes to Vault, which refuses it.
//
// A session is an entry in memory under the hash of a random ID, which a cookie
// carries. It ends with the caller's token. Every change is a POST with the session's
// CSRF token, from the page's own origin. The Content-Security-Policy allows scripts
// and styles from files of the page only, and none in the HTML. All texts are in
// texts.txt, and none is in a script.
package ui
