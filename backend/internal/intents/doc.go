// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package intents lets intents that are written at the same time share an entry of the
// write-ahead log, and so a write to storage and a deletion. An entry is there from before
// the first of its intents is answered until after the last of them is deleted.
//
// Which intents of an entry were deleted is known in memory only. After a restart all of
// them are there again, as each would be after a crash just before its deletion: the job that
// recovers one finds in the tenant's record that it is over, and deletes it once more.
package intents
