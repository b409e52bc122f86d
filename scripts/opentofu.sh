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

# go install refuses it, since its go.mod replaces a module.
exec scripts/main-module.sh opentofu TOFU_BIN tofu github.com/opentofu/opentofu "$version" "$sum" ./cmd/tofu '-X github.com/opentofu/opentofu/version.dev=no'
