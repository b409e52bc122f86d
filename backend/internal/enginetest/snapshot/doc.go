// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package snapshot checks that what earlier releases have stored is opened, rotated and
// deleted. A file of testdata is the storage of a mount as a release left it, with what
// must be read from it. The keys in it are real and protect nothing.
//
// SNAPSHOT=v0.1.0 makes TestMakeSnapshot write the file of that release, where there is
// none; once that is released, the file is never changed.
package snapshot
