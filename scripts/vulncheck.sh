#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Looks for known vulnerabilities in the code that is really called. It asks
# vuln.go.dev, so it needs the network.
set -eu

cd "$(dirname -- "$0")/.."
scripts/tool.sh govulncheck golang.org/x/vuln/cmd/govulncheck
bin/govulncheck ./...
bin/govulncheck -C terraform ./...
if reason=$(scripts/cgo.sh); then
	exec bin/govulncheck -C cmd/dek-kms-pkcs11 ./...
fi
echo "vulncheck: $reason, so cmd/dek-kms-pkcs11 is left out"
