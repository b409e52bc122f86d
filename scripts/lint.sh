#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs the pinned golangci-lint with the arguments given, on the module, on the one of
# terraform/ and, where there is a C compiler, on the one of cmd/dek-kms-pkcs11/.
set -eu

cd "$(dirname -- "$0")/.."
scripts/tool.sh golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
root=$PWD
bin/golangci-lint "$@" ./...
(cd terraform && "$root/bin/golangci-lint" "$@" ./...)
if reason=$(scripts/cgo.sh); then
	cd cmd/dek-kms-pkcs11
	exec "$root/bin/golangci-lint" "$@" ./...
fi
echo "lint: $reason, so cmd/dek-kms-pkcs11 is left out"
