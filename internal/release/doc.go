// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package release packs what a release consists of: archives, Debian packages, an OCI
// layout, notices of third parties, provenance, sums and their signature. scripts/release.sh
// runs its command.
//
// What it writes depends on its input alone: files are sorted, they have no owner, and
// their time is the one of the commit. So the same commit gives the same bytes on every
// machine, and an operator can compare a build with a release.
package release
