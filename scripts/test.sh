#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs the unit tests and the acceptance tests. The race detector needs cgo and
# a C compiler; where they are missing the tests run without it.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}

race=-race
if [ "$($GO env CGO_ENABLED)" != 1 ]; then
	race=
	reason='cgo is off'
elif ! command -v "$($GO env CC | cut -d ' ' -f 1)" >/dev/null; then
	race=
	reason='there is no C compiler'
fi
if [ -z "$race" ]; then
	echo "test: $reason, so the race detector is left out"
fi

step() {
	echo "test: $1"
	shift
	started=$(date +%s)
	"$@"
	echo "test: done in $(($(date +%s) - started)) s"
}

step 'unit tests' $GO test $race -timeout 30m ./...
step 'acceptance tests on a real Vault' $GO test -tags acceptance -count=1 -timeout 20m ./test/acceptance/...
