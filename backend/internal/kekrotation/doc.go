// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package kekrotation is the state machine that rotates the mount's key-encryption
// key (KEK): it makes a new one and moves every key of every tenant to it. It has
// no goroutines and no clock of its own: who drives it decides what runs when.
//
// A rotation starts with two writes under the KEK's lock, held exclusively:
//
//  1. the new KEK, under a random ID;
//  2. the record of the KEK, which makes it the current one and names the
//     unfinished rotation. This is the commit point.
//
// From then on every key that is made is wrapped under the new KEK. A [Run] first
// waits until what was wrapped before is stored ([tenant.Store.AwaitHolders]), then
// goes through all tenants, part by part, and moves their keys, each tenant's
// under its exclusive lock ([Engine.RewrapKeys]). An entry names its KEK, so
// there is no cursor, and doing it again does no harm. It goes through them again
// until there was nothing left to do. Then the older KEKs are destroyed, and last
// the record says that the rotation has completed.
//
// A key that does not open is noted as a failure, and the rest goes on. Then the
// rotation ends failed, the older KEKs are kept, and the next rotation takes what
// was left.
//
// Whatever dies at whatever moment, the record tells [Engine.Recover] how to go on.
// docs/model has a model of this protocol, which a program has searched.
package kekrotation
