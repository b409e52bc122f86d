#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# tool.sh NAME PACKAGE [MODULE] leaves a development tool at bin/NAME, built from the
# version that the nested module scripts/MODULE (lint) pins, unless it is there already.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
GO=${GO:-go}
name=$1
package=$2
module=$root/scripts/${3:-lint}

# The stamp says what the tool was built from: the pins, and the Go version,
# which golangci-lint may not be older than.
stamp=$root/bin/.$name.stamp
want=$(cat "$module/go.mod" && cd "$root" && $GO env GOVERSION)
if [ -x "$root/bin/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
	exit 0
fi

echo "$name: building it, once; the first time this takes a few minutes" >&2
started=$(date +%s)
mkdir -p "$root/bin"
(cd "$module" && $GO build -trimpath -o "$root/bin/$name" "$package")
echo "$want" >"$stamp"
echo "$name: built bin/$name in $(($(date +%s) - started)) s" >&2
