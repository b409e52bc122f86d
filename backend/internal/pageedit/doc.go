// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package pageedit makes changes of items in the slots of a page, in memory. Changes of
// callers that wait for the same page are made together, and committed by one write;
// each change ([Op]) has its own outcome. It is pure: package itemstore
// reads and writes the page.
//
// # What it must never do
//
// Give a change an outcome before the write that holds it has one: neither success, nor
// a refusal that follows from another change of the same write.
package pageedit
