#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs the pinned golangci-lint with the arguments given, on the module and on the one of
# terraform/.
set -eu

cd "$(dirname -- "$0")/.."
scripts/tool.sh golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
bin/golangci-lint "$@" ./...
cd terraform
exec ../bin/golangci-lint "$@" ./...
