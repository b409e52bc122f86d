// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package kekrotation rotates key-encryption keys (KEKs). Of the mount's it makes a new one
// and moves every key of every tenant to it, in the background ([Engine.Drive]).
//
// A rotation starts with two writes under the KEK's lock, held exclusively:
//
//  1. the new KEK, under a random ID;
//  2. the record of the KEK, which makes it the current one and names the
//     unfinished rotation. This is the commit point.
//
// From then on every new key is wrapped under the new KEK. A [Run] first waits until
// every key that was wrapped before is stored ([tenant.Store.AwaitLocks]). Then it
// passes over all tenants, part by part, and moves their keys, each tenant's under its
// exclusive lock ([Engine.RewrapKeys]). An entry names its KEK, so there is no cursor,
// and moving a key twice is harmless. Passes are repeated until one finds nothing to do.
// Then the older KEKs are destroyed, and last the record says that the rotation has
// completed.
//
// A key that does not open is listed as a failure, and the pass goes on. Then the
// rotation ends failed, the older KEKs are kept, and the next rotation takes the keys
// that were left.
//
// After a crash at any point, the record tells [Engine.Recover] how to go on.
// docs/model/kek.py is a model of this protocol.
//
// # A tenant's own KEK
//
// A tenant may have a KEK of its own, under a key provider. Moving its keys in, out or from
// one to another ([Engine.StartTenant]) is the rotation above with one tenant in its range,
// whose record takes the place of the record of the mount's KEK: the new KEK is stored, one
// Put of the tenant's record names it, and then, under the tenant's lock, its keys are moved,
// the KEKs that are left destroyed, and the record says that this is over. The index of the
// schedule brings an unfinished move back after a crash. The mount's passes leave keys alone
// that are on a tenant's own KEK. docs/model/tenantkek.py is a model of both together.
//
// KEKs and their record are keystore's. This package has one entry of its own,
// kek/counted_from: from when the age of a KEK without a date is counted. It must never
// move a key that a List does not show, which may have been destroyed, and never delete a
// tenant's record.
package kekrotation
