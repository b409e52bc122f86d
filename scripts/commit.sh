#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Prints the commit that binaries are built of: its hash, with "-dirty" where files that
# belong to it have changed since, or "unknown" outside a repository. Go would record more
# than that (times, and files that do not belong to the commit), so that two machines
# would build different bytes.
set -eu

cd "$(dirname -- "$0")/.."
if ! commit=$(git rev-parse --verify --quiet HEAD 2>/dev/null); then
	echo unknown
	exit 0
fi
if [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then
	commit=$commit-dirty
fi
echo "$commit"
