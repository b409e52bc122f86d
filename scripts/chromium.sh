#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds the browser that tests of the administrators' page need: CHROME_BIN, the PATH.
# As root on Debian it installs what is missing. Where neither is possible it says so,
# and the tests say that they did not run.
set -eu

find_browser() {
	for name in ${CHROME_BIN:-} chromium chromium-browser google-chrome; do
		command -v "$name" && return 0
	done
	return 1
}

if found=$(find_browser); then
	echo "chromium: $found"
	exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo 'chromium: installing Debian'\''s chromium'
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium && find_browser && exit 0
fi
echo 'chromium: there is none, and it cannot be installed here: set CHROME_BIN' >&2
exit 1
