// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package localkmstest runs local-kms, an emulator of AWS KMS, for a test on Linux.
//
// The emulator listens on all addresses and lets in whoever asks. So it never runs on the
// machine's own network: the test's program starts itself again in network and process
// namespaces of its own, and there it starts the emulator. Nothing reaches the emulator but
// that program, by way of a Unix socket, and a listener of the test's on loopback. When the
// test's program ends, however it does, the kernel ends all that is in the namespaces.
package localkmstest
