#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds the PostgreSQL server that tests of dek rewrap postgres need: PGBIN, the
# PATH, Debian's directories. As root on Debian it installs what is missing. Where
# neither is possible it says so, and the tests say that they did not run.
set -eu

find_server() {
	for dir in ${PGBIN:-} /usr/lib/postgresql/*/bin; do
		[ -x "$dir/initdb" ] && echo "$dir" && return 0
	done
	server=$(command -v postgres) || return 1
	dir=$(dirname -- "$(readlink -f -- "$server")")
	[ -x "$dir/initdb" ] && echo "$dir"
}

if found=$(find_server); then
	echo "postgres: $found"
	exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo 'postgres: installing Debian'\''s postgresql'
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql && find_server && exit 0
fi
echo 'postgres: there is none, and it cannot be installed here: set PGBIN' >&2
exit 1
