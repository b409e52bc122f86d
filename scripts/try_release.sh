#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs the acceptance tests on the programs of a release: `scripts/try_release.sh DIST`, a
# directory that make release has filled. It puts them into bin/, where every test finds the
# plugin, the proxy and the command. Flags of go test may follow, such as -run.
set -eu

dist=$(CDPATH='' cd -- "${1:?usage: try_release.sh DIST [flags of go test]}" && pwd)
shift
cd "$(dirname -- "$0")/.."
GO=${GO:-go}
platform=$($GO env GOOS)_$($GO env GOARCH)
version=$(sed -n 's/^[[:space:]]*version = "\(v[^"]*\)".*/\1/p' internal/version/version.go)

for command in vault-plugin-dek dek-proxy dek; do
	cp "$dist/${command}_${version}_$platform" "bin/$command.new"
	mv -f "bin/$command.new" "bin/$command" # one that runs cannot be written over
	bin/$command --version
done
DEK_RELEASE=$dist
export DEK_RELEASE
exec $GO test -tags acceptance -count=1 -timeout 30m "$@" ./test/acceptance
