#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Builds the plugin, the proxy and the command for every platform into dist/, with their
# SHA-256 in dist/SHA256SUMS. The version is in the files' names: an upgrade puts the
# new plugin beside the old one, which Vault starts until it is moved to the new one.
# The same commit and Go version give the same bytes on every machine: no cgo, no
# paths, and of the version control system the commit's hash alone.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}

version=$(sed -n 's/^[[:space:]]*version = "\(v[0-9][^"]*\)".*/\1/p' internal/version/version.go)
[ -n "$version" ] || { echo "release: no version in internal/version/version.go" >&2; exit 1; }
commit=$(scripts/commit.sh)

rm -rf dist
mkdir dist
for platform in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	os=${platform%/*}
	arch=${platform#*/}
	for command in vault-plugin-dek dek-proxy dek; do
		echo "release: $command for $platform"
		CGO_ENABLED=0 GOOS=$os GOARCH=$arch $GO build -trimpath -buildvcs=false \
			-ldflags "-s -w -buildid= -X github.com/vault-plugin-dek/vault-plugin-dek/internal/version.commit=$commit" \
			-o "dist/${command}_${version}_${os}_$arch" "./cmd/$command"
	done
done

cd dist
if command -v sha256sum >/dev/null; then
	sha256sum -- *_* >SHA256SUMS
else
	shasum -a 256 -- *_* >SHA256SUMS
fi
cat SHA256SUMS
