#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds prometheus and promtool, which tests of docs/monitoring need: PROMETHEUS_BIN (a
# directory), bin/, the PATH. On Debian it unpacks its package of them below bin/. The
# package is not installed, since that would start a server. Where neither is possible it
# says so, and the tests say that they did not run.
set -eu

cd "$(dirname -- "$0")/.."

find_tools() {
	for dir in ${PROMETHEUS_BIN:-} bin; do
		[ -x "$dir/prometheus" ] && [ -x "$dir/promtool" ] && echo "$dir" && return 0
	done
	command -v promtool >/dev/null && command -v prometheus
}

unpack() {
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	if [ "$(id -u)" = 0 ]; then
		apt-get update -q
	fi
	(cd "$work" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb .) || return 1
	mkdir -p bin
	for tool in prometheus promtool; do
		cp "$work/usr/bin/$tool" "bin/.$tool.new" && mv "bin/.$tool.new" "bin/$tool"
	done
}

if found=$(find_tools); then
	echo "prometheus: $found"
	exit 0
fi
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
	echo 'prometheus: unpacking Debian'\''s prometheus below bin/'
	unpack && find_tools && exit 0
fi
echo 'prometheus: there is none, and it cannot be had here: set PROMETHEUS_BIN' >&2
exit 1
