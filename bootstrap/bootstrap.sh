#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Makes a Vault or OpenBao server ready for vault-plugin-dek: registers and mounts
# the plugin, lets people and applications in through JWTs with the roles of
# policies/, and proves at the end that the mount can be written. It uses nothing
# but the vault command and may be run as often as you like: what is as it should
# be stays untouched, what it did not make it refuses to replace, and it says what
# it changes.
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
PROVIDER_SOCKETS=${PROVIDER_SOCKETS:-}
DEK_MOUNT=${DEK_MOUNT:-dek}
DEK_DESCRIPTION=${DEK_DESCRIPTION:-Data encryption keys of tenants, and their rotation}
DEK_ROLES=${DEK_ROLES:-security_admin super_admin key_admin kek_admin key_destroyer application auditor}
JWT_MOUNT=${JWT_MOUNT:-jwt}
JWT_ROLE=${JWT_ROLE:-dek}
JWT_ROLE_PREFIX=${JWT_ROLE_PREFIX:-}
JWT_PUBKEY_FILE=${JWT_PUBKEY_FILE:-}
JWT_JWKS_URL=${JWT_JWKS_URL:-}
JWT_OIDC_DISCOVERY_URL=${JWT_OIDC_DISCOVERY_URL:-}
JWT_CA_FILE=${JWT_CA_FILE:-}
# What these are by default holds for a login role that is new: one that is there
# changes only in what is given.
JWT_ISSUER=${JWT_ISSUER:-}
JWT_AUDIENCE=${JWT_AUDIENCE:-}
JWT_TOKEN_TTL=${JWT_TOKEN_TTL:-}
JWT_USER_CLAIM=${JWT_USER_CLAIM:-}
NAME_PREFIX=${NAME_PREFIX-dek-}
USERPASS_MOUNT=${USERPASS_MOUNT:-}
USERPASS_TTL=${USERPASS_TTL:-}
USERPASS_MAX_TTL=${USERPASS_MAX_TTL:-}
KV_FACE=${KV_FACE:-}
PLUGIN_NAMESPACE=${PLUGIN_NAMESPACE:-}
FORCE=${FORCE:-}

# The roles that hold for one tenant, the one of the claim tenant_id.
bound_roles='security_admin key_importer application'

. "$here/lib/vault.sh"
. "$here/lib/arguments.sh"
. "$here/lib/engine.sh"
. "$here/lib/roles.sh"
. "$here/lib/issuer.sh"
. "$here/lib/logins.sh"
. "$here/lib/server.sh"

case ${1:-} in
-h | --help)
	printf 'usage: PLUGIN_FILE=FILE [VARIABLE=VALUE ...] %s\n\n' "$0"
	sed -n '5,16s/^# \{0,1\}//p' "$0"
	exit 0
	;;
esac
[ $# -eq 0 ] || die "takes no arguments, only variables of the environment: $here/README.md lists them"
check_arguments
forget_client_settings

umask 077
tmp=$(mktemp -d)
trap 'finish $?' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# First everything is looked at that could be refused, then the first change is
# made. The engine and the logins know nothing of each other, and most of the time
# goes into starting the vault command.
check_engine &
engine=$!
check_logins
wait "$engine"

setup_engine &
engine=$!
setup_logins
wait "$engine"

check_server
prove_writable
say "$DEK_MOUNT/ is ready; JWTs log in at auth/$JWT_MOUNT/ with role $JWT_ROLE"
