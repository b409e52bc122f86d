#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# main-module.sh NAME VARIABLE BINARY MODULE VERSION SUM PACKAGE LDFLAGS leaves a program at
# bin/BINARY, built from a package of a module of the Go module proxy. The module is built as
# its own main module: with its own go.sum, and what its go.mod replaces. SUM is that of the
# module's content, as go.sum has it. Where the program cannot be had, NAME tells the user to
# set VARIABLE.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}
name=$1 variable=$2 binary=$3 path=$4 version=$5 sum=$6 package=$7 ldflags=$8

# field KEY prints a field of what go mod download tells as JSON.
field() {
	printf '%s\n' "$module" | sed -n 's/^[[:space:]]*"'"$1"'": "\(.*\)",\{0,1\}$/\1/p'
}

echo "$name: building $binary $version, once; the first time this may take some minutes"
started=$(date +%s)
module=$($GO mod download -json "$path@$version") || {
	echo "$name: there is none, and it cannot be had here: set $variable" >&2
	exit 1
}
if [ "$(field Sum)" != "$sum" ]; then
	echo "$name: the module has another content than expected: $(field Sum)" >&2
	exit 1
fi
target=$PWD/bin/$binary
mkdir -p bin
(cd "$(field Dir)" && CGO_ENABLED=0 $GO build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w $ldflags" -o "$target.new" "$package")
mv -f "$target.new" "$target"
echo "$name: built bin/$binary in $(($(date +%s) - started)) s"
