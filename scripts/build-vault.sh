#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Leaves a Vault server at bin/vault, for development and tests: VAULT_BIN, or a
# vault on the PATH, or what is there already, or else one built from the nested
# module scripts/vault.
set -eu
exec >&2 # the standard output belongs to the target that needs a Vault

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
target=$root/bin/vault
module=$root/scripts/vault
mkdir -p "$root/bin"

# use FILE WHERE links bin/vault to a Vault found elsewhere.
use() {
	found=$(command -v "$1") || { echo "vault: $1 ($2) cannot be executed" >&2; exit 1; }
	file=$(CDPATH='' cd -- "$(dirname -- "$found")" && pwd)/$(basename -- "$found")
	if [ "$file" != "$target" ] && [ "$(readlink "$target" 2>/dev/null)" != "$file" ]; then
		ln -sf "$file" "$target"
		echo "vault: using $file ($2)"
	fi
	exit 0
}

if [ -n "${VAULT_BIN:-}" ]; then
	use "$VAULT_BIN" "VAULT_BIN"
fi
if command -v vault >/dev/null; then
	use vault "on the PATH"
fi

version=$(sed -n 's|^[[:space:]]*github.com/hashicorp/vault v\([0-9.]*\).*|\1|p' "$module/go.mod" | head -n 1)

# What was built from an older pin is built anew. A link to a Vault found
# elsewhere stays while that Vault is there.
if [ -x "$target" ]; then
	case $(readlink "$target" || "$target" version) in
	/* | "Vault v$version"*) exit 0 ;;
	esac
fi

cat <<TEXT
vault: no Vault server found (VAULT_BIN, the PATH, bin/vault), so Vault $version is
vault: built from source, once, for development and tests. The first time this
vault: takes 5 to 8 minutes on two cores and downloads some 500 MB of modules.
TEXT
started=$(date +%s)
rm -f "$target.new"
(
	cd "$module"
	# minimal leaves out the cloud backends; nothing here needs them.
	go build -tags minimal -trimpath -ldflags "-s -w" -o "$target.new" github.com/hashicorp/vault
)
mv -f "$target.new" "$target"
echo "vault: built bin/vault in $(($(date +%s) - started)) s"
