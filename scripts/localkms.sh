#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds local-kms, an emulator of AWS KMS that a test of key providers needs: LOCAL_KMS_BIN,
# bin/local-kms. Where there is none it builds the version below from the Go module proxy,
# once, at bin/local-kms: half a minute, some 40 MB of modules. Where that is not possible it
# says so, and the test says that it did not run.
#
# Never run it by hand on a network that others reach: it listens on all addresses and asks
# nobody who they are. The test runs it in a network namespace of its own.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}

# The sum is that of the module's content, as go.sum has it. The sums of what it requires are
# in the go.sum of that content.
version=v0.0.0-20260228092603-2a5e92d09ab6
sum='h1:kCiMJ8KHc9CLE+nL5W5c0hFEhjyZMRNJroF8huqLoNM='

if [ -n "${LOCAL_KMS_BIN:-}" ]; then
	command -v "$LOCAL_KMS_BIN" || { echo "localkms: LOCAL_KMS_BIN cannot be executed: $LOCAL_KMS_BIN" >&2; exit 1; }
	exit 0
fi
if [ -x bin/local-kms ] && grep -qaF "local-kms $version" bin/local-kms; then
	echo 'localkms: bin/local-kms'
	exit 0
fi

# field NAME prints a field of what go mod download tells as JSON.
field() {
	printf '%s\n' "$module" | sed -n 's/^[[:space:]]*"'"$1"'": "\(.*\)",\{0,1\}$/\1/p'
}

echo "localkms: building local-kms $version, once"
started=$(date +%s)
module=$($GO mod download -json "github.com/nsmithuk/local-kms@$version") || {
	echo 'localkms: there is none, and it cannot be had here: set LOCAL_KMS_BIN' >&2
	exit 1
}
if [ "$(field Sum)" != "$sum" ]; then
	echo "localkms: the module has another content than expected: $(field Sum)" >&2
	exit 1
fi
# It is built as its own main module, so that its go.sum is held against what it requires.
target=$PWD/bin/local-kms
mkdir -p bin
(cd "$(field Dir)" && CGO_ENABLED=0 $GO build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w -X 'main.Version=local-kms $version'" -o "$target.new" .)
mv -f "$target.new" "$target"
echo "localkms: built bin/local-kms in $(($(date +%s) - started)) s"
