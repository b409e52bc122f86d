#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs every fuzz target there is for FUZZTIME (10s), one after the other.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}
FUZZTIME=${FUZZTIME:-10s}

targets=0
for package in $($GO list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	list=$($GO test -list '^Fuzz' "$package")
	for target in $(echo "$list" | grep '^Fuzz' || true); do
		echo "fuzz: $package $target for $FUZZTIME"
		$GO test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$package"
		targets=$((targets + 1))
	done
done
echo "fuzz: $targets targets, no failure"
