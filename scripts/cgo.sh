#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Ends with 0 where Go can build with cgo, which the race detector and cmd/dek-kms-pkcs11
# need, and otherwise says why it cannot.
set -eu

GO=${GO:-go}
if [ "$($GO env CGO_ENABLED)" != 1 ]; then
	echo 'cgo is off'
	exit 1
fi
if ! command -v "$($GO env CC | cut -d ' ' -f 1)" >/dev/null; then
	echo 'there is no C compiler'
	exit 1
fi
