#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs the tests of test/externalsecrets and the linter on them. make test runs them beside
# the acceptance tests; make lint leaves them out, since the operator's provider brings along
# Kubernetes' client and a cloud's, which take minutes to load where no cache has them.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}
root=$PWD

$GO test -C test/externalsecrets -tags acceptance -count=1 -timeout 30m ./...
scripts/tool.sh golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
cd test/externalsecrets
exec "$root/bin/golangci-lint" run ./...
