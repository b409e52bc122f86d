#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds OpenTofu, which the tests of terraform/ need: TOFU_BIN, bin/tofu, the PATH. Where
# there is none it builds the version below from the Go module proxy, once, at bin/tofu:
# 3 minutes on two cores, some 400 MB of modules. Where that is not possible it says so,
# and the tests say that they did not run.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}

# The sum is that of the module's content, as go.sum has it.
version=v1.12.6
sum='h1:0VT4P8pMmGcCUnQ9JDrJ+Qg2d35Vzm4FFd/9+H7oF98='

if [ -n "${TOFU_BIN:-}" ]; then
	command -v "$TOFU_BIN" || { echo "opentofu: TOFU_BIN cannot be executed: $TOFU_BIN" >&2; exit 1; }
	exit 0
fi
if [ -x bin/tofu ] && TF_CLI_CONFIG_FILE=/dev/null bin/tofu version | grep -q "^OpenTofu $version\$"; then
	echo 'opentofu: bin/tofu'
	exit 0
fi
if ! [ -e bin/tofu ] && command -v tofu; then
	exit 0
fi

# field NAME prints a field of what go mod download tells as JSON.
field() {
	printf '%s\n' "$module" | sed -n 's/^[[:space:]]*"'"$1"'": "\(.*\)",\{0,1\}$/\1/p'
}

echo "opentofu: building OpenTofu $version, once; the first time this takes some minutes"
started=$(date +%s)
module=$($GO mod download -json "github.com/opentofu/opentofu@$version") || {
	echo 'opentofu: there is none, and it cannot be had here: set TOFU_BIN' >&2
	exit 1
}
if [ "$(field Sum)" != "$sum" ]; then
	echo "opentofu: the module has another content than expected: $(field Sum)" >&2
	exit 1
fi
# It is built as its own main module, since its go.mod replaces a module: go install
# refuses that, and a module that requires it would not have the replacement.
target=$PWD/bin/tofu
mkdir -p bin
(cd "$(field Dir)" && CGO_ENABLED=0 $GO build -mod=readonly -buildvcs=false -trimpath -ldflags '-s -w -X github.com/opentofu/opentofu/version.dev=no' -o "$target.new" ./cmd/tofu)
mv -f "$target.new" "$target"
echo "opentofu: built bin/tofu in $(($(date +%s) - started)) s"
