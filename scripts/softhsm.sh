#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds SoftHSM 2 and OpenSC's pkcs11-tool, which the tests of cmd/dek-kms-pkcs11 need. As
# root on Debian it installs what is missing. Where that is not possible it says so, and the
# tests say that they did not run.
set -eu

found() { command -v softhsm2-util && command -v pkcs11-tool; }

if found >/dev/null; then
	echo 'softhsm: it is there'
	exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo 'softhsm: installing Debian'\''s softhsm2 and opensc'
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends softhsm2 opensc && found && exit 0
fi
echo 'softhsm: there is none, or no pkcs11-tool, and they cannot be installed here' >&2
exit 1
