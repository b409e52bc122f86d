#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Leaves a Vault server at bin/vault, for development and tests: VAULT_BIN, or a
# vault on the PATH, or what is there already, or else one built from the nested
# module scripts/vault.
#
# DEV_VAULT_VERSION builds an older one, pinned in scripts/vault/vault-*.mod,
# at bin/vault-VERSION, beside the other: VAULT_BIN then names it.
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

modfile=go.mod
if [ -n "${DEV_VAULT_VERSION:-}" ]; then
	modfile=vault-$DEV_VAULT_VERSION.mod
	target=$root/bin/vault-$DEV_VAULT_VERSION
	[ -f "$module/$modfile" ] || { echo "vault: there is no scripts/vault/$modfile"; exit 1; }
elif [ -n "${VAULT_BIN:-}" ]; then
	use "$VAULT_BIN" "VAULT_BIN"
elif command -v vault >/dev/null; then
	use vault "on the PATH"
fi

version=$(sed -n 's|^[[:space:]]*github.com/hashicorp/vault v\([0-9.]*\).*|\1|p' "$module/$modfile" | head -n 1)

# What was built from an older pin is built anew. A link to a Vault found
# elsewhere stays while that Vault is there.
if [ -x "$target" ]; then
	case $(readlink "$target" || "$target" version) in
	/* | "Vault v$version"*) exit 0 ;;
	esac
fi

# patch_sdk makes a copy of the SDK that Vault 1.21.4 compiles with, and a go.mod that
# names it. Vault was built in its own tree, with an SDK between two releases: of
# v0.21.0 one type is too new for it, and of v0.24.0, whose function it calls, others
# are.
patch_sdk() {
	go mod download -modfile="$modfile" github.com/hashicorp/vault/sdk
	sdk=$(go list -modfile="$modfile" -m -f '{{.Dir}}' github.com/hashicorp/vault/sdk)
	cp -R "$sdk" "$patched/sdk"
	chmod -R u+w "$patched/sdk"
	sed 's|ActivationFunc func(context.Context, \*logical.Request, string) error|ActivationFunc func(context.Context, *logical.Request) error|' \
		"$sdk/framework/backend.go" >"$patched/sdk/framework/backend.go"
	sed 's|) RestorePolicy(|) restorePolicy(|' "$sdk/helper/keysutil/lock_manager.go" >"$patched/sdk/helper/keysutil/lock_manager.go"
	cat >>"$patched/sdk/helper/keysutil/lock_manager.go" <<-GO

		// RestorePolicy answers the name of the key, too.
		func (lm *LockManager) RestorePolicy(ctx context.Context, storage logical.Storage, name, backup string, force bool) (string, error) {
			return name, lm.restorePolicy(ctx, storage, name, backup, force)
		}
	GO
	cp "$modfile" "$patched/go.mod"
	cp "${modfile%.mod}.sum" "$patched/go.sum"
	modfile=$patched/go.mod
	go mod edit -replace="github.com/hashicorp/vault/sdk=$patched/sdk" "$modfile"
}

cat <<TEXT
vault: ${target#"$root/"} is not there yet, so Vault $version is built from source, once,
vault: for development and tests. The first time this takes 5 to 8 minutes on two
vault: cores and downloads some 500 MB of modules.
TEXT
started=$(date +%s)
rm -f "$target.new"
patched=$(mktemp -d)
trap 'rm -rf "$patched"' EXIT
(
	cd "$module"
	if [ "$version" = 1.21.4 ]; then
		patch_sdk
	fi
	# minimal leaves out the cloud backends; nothing here needs them.
	go build -modfile="$modfile" -tags minimal -trimpath -ldflags "-s -w" -o "$target.new" github.com/hashicorp/vault
)
mv -f "$target.new" "$target"
echo "vault: built ${target#"$root/"} in $(($(date +%s) - started)) s"
