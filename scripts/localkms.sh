#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds local-kms, an emulator of AWS KMS that a test of key providers needs: LOCAL_KMS_BIN,
# bin/local-kms. Where there is none it builds the version below from the Go module proxy,
# once, at bin/local-kms: half a minute, some 40 MB of modules. Where that is not possible it
# says so, and the test says that it did not run.
#
# Never run it by hand on a network that others reach: it listens on all addresses and asks
# nobody who they are. The test runs it in a network namespace of its own.
set -eu

cd "$(dirname -- "$0")/.."

version=v0.0.0-20260228092603-2a5e92d09ab6
sum='h1:kCiMJ8KHc9CLE+nL5W5c0hFEhjyZMRNJroF8huqLoNM='

if [ -n "${LOCAL_KMS_BIN:-}" ]; then
	command -v "$LOCAL_KMS_BIN" || { echo "localkms: LOCAL_KMS_BIN cannot be executed: $LOCAL_KMS_BIN" >&2; exit 1; }
	exit 0
fi
if [ -x bin/local-kms ] && grep -qaF "local-kms $version" bin/local-kms; then
	echo 'localkms: bin/local-kms'
	exit 0
fi

exec scripts/main-module.sh localkms LOCAL_KMS_BIN local-kms github.com/nsmithuk/local-kms "$version" "$sum" . "-X 'main.Version=local-kms $version'"
