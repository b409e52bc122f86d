#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Makes a Vault server ready for vault-plugin-dek: registers and mounts the
# plugin, and lets people and applications in through JWTs with the roles
# security_admin, super_admin, key_admin, application and auditor. It uses
# nothing but the vault command and may be run as often as you like: what is as
# it should be stays untouched.
#
# It speaks to the server that VAULT_ADDR and VAULT_TOKEN name (and VAULT_CACERT,
# VAULT_NAMESPACE and the rest of what every Vault client knows). README.md
# beside this file explains the variables.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

VAULT_BIN=${VAULT_BIN:-vault}
PLUGIN_FILE=${PLUGIN_FILE:-}
PLUGIN_SHA256=${PLUGIN_SHA256:-}
PLUGIN_NAME=${PLUGIN_NAME:-vault-plugin-dek}
DEK_MOUNT=${DEK_MOUNT:-dek}
DEK_DESCRIPTION=${DEK_DESCRIPTION:-Data encryption keys of tenants, and their rotation}
JWT_MOUNT=${JWT_MOUNT:-jwt}
JWT_ROLE=${JWT_ROLE:-dek}
JWT_AUDIENCE=${JWT_AUDIENCE:-vault-plugin-dek}
JWT_ISSUER=${JWT_ISSUER:-}
JWT_PUBKEY_FILE=${JWT_PUBKEY_FILE:-}
JWT_JWKS_URL=${JWT_JWKS_URL:-}
JWT_OIDC_DISCOVERY_URL=${JWT_OIDC_DISCOVERY_URL:-}
JWT_CA_FILE=${JWT_CA_FILE:-}
JWT_TOKEN_TTL=${JWT_TOKEN_TTL:-15m}
NAME_PREFIX=${NAME_PREFIX:-}
USERPASS_MOUNT=${USERPASS_MOUNT:-}

die() {
	echo "bootstrap: $*" >&2
	exit 1
}

say() { echo "bootstrap: $*"; }

# read_field FIELD PATH prints a field of a Vault path, or nothing where the
# path does not exist. Every other failure (sealed, out of reach, forbidden) is
# one, and never mistaken for "not there".
read_field() {
	if out=$("$VAULT_BIN" read -field="$1" "$2" 2>&1); then
		echo "$out"
		return
	fi
	case $out in
	*"No value found"* | *"No secret engine mount"* | *"No auth engine"*) ;;
	*) die "reading $2: $out" ;;
	esac
}

# vault_do ARGS... runs a vault command and shows its output only if it fails.
vault_do() {
	out=$("$VAULT_BIN" "$@" 2>&1) || die "vault $1 $2: $out"
}

plugin_sha256() {
	if [ -n "$PLUGIN_SHA256" ]; then
		echo "$PLUGIN_SHA256"
	elif command -v sha256sum >/dev/null 2>&1; then
		sha256sum <"$PLUGIN_FILE" | cut -d ' ' -f 1
	else
		shasum -a 256 <"$PLUGIN_FILE" | cut -d ' ' -f 1
	fi
}

# catalog_entry SHA256 prints "version:V" of the plugin registered under that
# hash, V empty if it has none, and nothing if it is not registered. A plugin
# tells Vault its version when it is registered, so there may be several.
catalog_entry() {
	catalog=$(read_field detailed sys/plugins/catalog)
	printf '%s\n' "$catalog" | tr '[' '\n' |
		grep " name:$PLUGIN_NAME .*sha256:$1 .*type:secret" |
		sed -n 's/.* \(version:[^] ]*\).*/\1/p' | tail -n 1
}

# The engine: what runs is what the catalog says, so the new hash is registered
# before anything is reloaded, and the hash that runs (not the catalog's)
# decides whether to reload: a run that stopped in between is made good.
setup_engine() {
	sha=$(plugin_sha256)
	command=$PLUGIN_NAME
	[ -z "$PLUGIN_FILE" ] || command=$(basename -- "$PLUGIN_FILE")

	entry=$(catalog_entry "$sha")
	if [ -z "$entry" ]; then
		vault_do plugin register -sha256="$sha" -command="$command" secret "$PLUGIN_NAME"
		entry=$(catalog_entry "$sha")
		[ -n "$entry" ] || die "registered $PLUGIN_NAME, but Vault's catalog does not show it"
		say "registered $PLUGIN_NAME ${entry#version:}, SHA-256 $sha"
	fi
	version=${entry#version:}

	type=$(read_field type "sys/mounts/$DEK_MOUNT")
	if [ -z "$type" ]; then
		vault_do secrets enable -path="$DEK_MOUNT" -description="$DEK_DESCRIPTION" \
			-plugin-version="$version" "$PLUGIN_NAME"
		say "mounted $DEK_MOUNT/"
	elif [ "$type" != "$PLUGIN_NAME" ]; then
		die "$DEK_MOUNT/ is a mount of $type: choose another DEK_MOUNT"
	else
		upgrade_mount
	fi
}

# upgrade_mount has the mount run the version and the binary registered.
upgrade_mount() {
	mounted=$(read_field plugin_version "sys/mounts/$DEK_MOUNT")
	[ "$mounted" != n/a ] || mounted=
	if [ "$mounted" != "$version" ]; then
		[ -n "$version" ] || die "$DEK_MOUNT/ runs $mounted, but $PLUGIN_NAME with SHA-256 $sha reports no version"
		vault_do secrets tune -plugin-version="$version" "$DEK_MOUNT"
		say "moved $DEK_MOUNT/ to version $version"
	fi
	running=$(read_field running_sha256 "sys/mounts/$DEK_MOUNT")
	if [ "$mounted" != "$version" ] || [ "$running" != "$sha" ]; then
		# Not `vault plugin reload -mounts`: 1.21's sends it where no server listens.
		vault_do write sys/plugins/reload/backend mounts="$DEK_MOUNT/"
		say "reloaded $DEK_MOUNT/"
	fi
}

# enable_auth TYPE PATH
enable_auth() {
	type=$(read_field type "sys/auth/$2")
	if [ -z "$type" ]; then
		vault_do auth enable -path="$2" "$1"
		say "enabled auth method $2/"
	elif [ "$type" != "$1" ]; then
		die "auth/$2/ is of type $type, not $1: choose another path"
	fi
}

# Where JWTs are verified. A server configured otherwise stays so if no source
# of keys is given.
configure_jwt() {
	set -- bound_issuer="$JWT_ISSUER" default_role="$JWT_ROLE"
	if [ -n "$JWT_PUBKEY_FILE" ]; then
		awk -v dir="$tmp" '/^-----BEGIN/ { n++ } n { print > (dir "/pubkey." n) }' "$JWT_PUBKEY_FILE"
		for key in "$tmp"/pubkey.*; do
			[ -f "$key" ] || die "JWT_PUBKEY_FILE: no PEM block in $JWT_PUBKEY_FILE"
			set -- "$@" jwt_validation_pubkeys="@$key"
		done
	elif [ -n "$JWT_JWKS_URL" ]; then
		set -- "$@" jwks_url="$JWT_JWKS_URL"
		[ -z "$JWT_CA_FILE" ] || set -- "$@" jwks_ca_pem="@$JWT_CA_FILE"
	elif [ -n "$JWT_OIDC_DISCOVERY_URL" ]; then
		set -- "$@" oidc_discovery_url="$JWT_OIDC_DISCOVERY_URL"
		[ -z "$JWT_CA_FILE" ] || set -- "$@" oidc_discovery_ca_pem="@$JWT_CA_FILE"
	else
		configured=$(read_field default_role "auth/$JWT_MOUNT/config")
		[ -n "$configured" ] || die "set JWT_PUBKEY_FILE, JWT_JWKS_URL or JWT_OIDC_DISCOVERY_URL: auth/$JWT_MOUNT/ is not configured yet"
		return 0
	fi
	vault_do write "auth/$JWT_MOUNT/config" "$@"
}

# Batch tokens: a login writes nothing to storage. user_claim must be unique per
# person and tenant, since Vault keeps metadata and groups per alias.
configure_role() {
	vault_do write "auth/$JWT_MOUNT/role/$JWT_ROLE" role_type=jwt \
		user_claim=sub groups_claim=roles bound_audiences="$JWT_AUDIENCE" \
		claim_mappings=name=name claim_mappings=email=email claim_mappings=tenant_id=tenant_id \
		token_type=batch token_ttl="$JWT_TOKEN_TTL"
}

# setup_policy ROLE ACCESSOR
setup_policy() {
	sed -e "s|@MOUNT@|$DEK_MOUNT|g" -e "s|@JWT_ACCESSOR@|$2|g" "$here/policies/$1.hcl" >"$tmp/$1.hcl"
	# The first time there is nothing to read, which is no failure.
	if [ "$("$VAULT_BIN" policy read "$NAME_PREFIX$1" 2>/dev/null)" != "$(cat "$tmp/$1.hcl")" ]; then
		vault_do policy write "$NAME_PREFIX$1" "$tmp/$1.hcl"
		say "wrote policy $NAME_PREFIX$1"
	fi
}

# setup_group ROLE ACCESSOR: the external group whose alias is the value of the
# roles claim. Policies that someone else gave the group stay. A group has one
# alias: one that is tied to another living auth mount is not taken away from it
# (the alias of a mount that is gone has no mount_path).
setup_group() {
	name=$NAME_PREFIX$1
	group=$("$VAULT_BIN" read "identity/group/name/$name" 2>&1) || case $group in
	*"No value found"*) group= ;;
	*) die "reading the group $name: $group" ;;
	esac
	tied=
	case $group in
	*"mount_accessor:$2 "*) tied=yes ;;
	*mount_path:*) die "group $name is tied to another auth mount: set NAME_PREFIX" ;;
	esac
	policies=$(echo "$group" | sed -n 's/^policies  *\[\(.*\)\]$/\1/p')
	case " $policies " in
	*" $name "*) ;;
	*)
		vault_do write identity/group name="$name" type=external \
			policies="$(echo "$policies $name" | tr ' ' ',' | sed 's/^,//')"
		say "gave group $name the policy $name"
		;;
	esac
	if [ -z "$tied" ]; then
		id=$(read_field id "identity/group/name/$name")
		vault_do write identity/group-alias name="$1" mount_accessor="$2" canonical_id="$id"
		say "tied group $name to the role $1 of JWTs"
	fi
}

# setup_role ROLE ACCESSOR: the group first, since it refuses to touch what
# belongs to another auth mount.
setup_role() {
	setup_group "$1" "$2"
	setup_policy "$1" "$2"
}

setup_auth() {
	enable_auth jwt "$JWT_MOUNT"
	accessor=$(read_field accessor "sys/auth/$JWT_MOUNT")
	jobs=
	for role in security_admin super_admin key_admin application auditor; do
		setup_role "$role" "$accessor" &
		jobs="$jobs $!"
	done
	configure_jwt
	configure_role
	for job in $jobs; do wait "$job"; done
	if [ -n "$USERPASS_MOUNT" ]; then
		enable_auth userpass "$USERPASS_MOUNT"
	fi
}

[ $# -eq 0 ] || die "takes no arguments: see README.md for the variables"
command -v "$VAULT_BIN" >/dev/null || die "no vault command: put it on the PATH or name it in VAULT_BIN"
if [ -z "$PLUGIN_FILE$PLUGIN_SHA256" ]; then
	die "set PLUGIN_FILE to the plugin in the server's plugin directory, or PLUGIN_SHA256 to its hash"
fi
case $PLUGIN_SHA256 in
*[!0-9a-f]*) die "PLUGIN_SHA256 is a SHA-256 in lower-case hexadecimal: $PLUGIN_SHA256" ;;
esac
if [ -z "$PLUGIN_SHA256" ] && ! [ -r "$PLUGIN_FILE" ]; then
	die "PLUGIN_FILE: cannot read $PLUGIN_FILE"
fi
for path in "$DEK_MOUNT" "$JWT_MOUNT" "$JWT_ROLE" "$PLUGIN_NAME" "$USERPASS_MOUNT"; do
	case $path in
	*[!A-Za-z0-9._/-]* | /* | */) die "a mount, role or name may hold A-Z a-z 0-9 . _ - and / in between: $path" ;;
	esac
done

case $NAME_PREFIX in
*[!a-z0-9._-]*) die "NAME_PREFIX may hold a-z 0-9 . _ - (Vault lower-cases names of policies): $NAME_PREFIX" ;;
esac

umask 077
tmp=$(mktemp -d)
trap 'wait; rm -rf "$tmp"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The engine and the logins know nothing of each other, and most of the time
# goes into starting the vault command.
setup_engine &
engine=$!
setup_auth
wait "$engine"
say "$DEK_MOUNT/ is ready; JWTs log in at auth/$JWT_MOUNT/ with role $JWT_ROLE"
