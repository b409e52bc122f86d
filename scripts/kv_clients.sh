#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Finds the clients of KV version 2 that acceptance tests run: hvac for Python, and
# node-vault, which it installs below bin/. As root on Debian it installs python3-hvac.
# Where one is missing and cannot be installed it says so, and the tests say that they
# did not run.
set -u

cd "$(dirname -- "$0")/.."
node_vault=0.12.0
missing=

has_hvac() { python3 -c 'import hvac' 2>/dev/null || /usr/bin/python3 -c 'import hvac' 2>/dev/null; }

if ! has_hvac && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo 'kv clients: installing Debian'\''s python3-hvac'
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-hvac
fi
if has_hvac; then
	echo 'kv clients: hvac is there'
else
	echo 'kv clients: there is no hvac for python3, and it cannot be installed here' >&2
	missing=yes
fi

if ! [ -f bin/node/node_modules/node-vault/package.json ] && command -v node >/dev/null && command -v npm >/dev/null; then
	echo "kv clients: installing node-vault $node_vault below bin/node"
	npm install --prefix bin/node --no-save --no-audit --no-fund --ignore-scripts "node-vault@$node_vault"
fi
if [ -f bin/node/node_modules/node-vault/package.json ] && command -v node >/dev/null; then
	echo 'kv clients: node-vault is there'
else
	echo 'kv clients: there is no node-vault, and it cannot be installed here: it takes node and npm' >&2
	missing=yes
fi
[ -z "$missing" ]
