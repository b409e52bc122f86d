#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs the pinned golangci-lint with the arguments given, on the whole module.
set -eu

cd "$(dirname -- "$0")/.."
scripts/tool.sh golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
exec bin/golangci-lint "$@" ./...
