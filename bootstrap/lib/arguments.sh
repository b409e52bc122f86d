# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: what the variables may hold, so that nothing in them is a
# path, a pattern or a command of its own.

check_arguments() {
	command -v "$VAULT_BIN" >/dev/null || die "no vault command: put it on the PATH or name it in VAULT_BIN"
	if [ -z "$PLUGIN_FILE$PLUGIN_SHA256" ]; then
		die "set PLUGIN_FILE to the plugin in the server's plugin directory, or PLUGIN_SHA256 to its hash"
	fi
	case $PLUGIN_SHA256 in
	*[!0-9a-f]*) die "PLUGIN_SHA256 is a SHA-256 in lower-case hexadecimal: $PLUGIN_SHA256" ;;
	esac
	case ${#PLUGIN_SHA256} in
	0 | 64) ;;
	*) die "PLUGIN_SHA256 has 64 hexadecimal digits, and not ${#PLUGIN_SHA256}" ;;
	esac
	for file in JWT_PUBKEY_FILE JWT_CA_FILE; do
		eval "name=\$$file"
		[ -z "$name" ] || [ -r "$name" ] || die "$file: cannot read $name"
	done
	if [ -z "$PLUGIN_SHA256" ] && ! [ -r "$PLUGIN_FILE" ]; then
		die "PLUGIN_FILE: cannot read $PLUGIN_FILE"
	fi
	case $PROVIDER_SOCKETS in
	'') ;;
	*[!A-Za-z0-9._/-]* | [!/]*) die "PROVIDER_SOCKETS is an absolute path of A-Z a-z 0-9 . _ - and /: $PROVIDER_SOCKETS" ;;
	esac
	for path in "$DEK_MOUNT" "$JWT_MOUNT" "$USERPASS_MOUNT"; do
		case $path in
		*[!A-Za-z0-9._/-]* | /* | */) die "a mount may hold A-Z a-z 0-9 . _ - and / in between: $path" ;;
		esac
	done
	for name in "$JWT_ROLE" "$PLUGIN_NAME"; do
		case $name in
		*[!A-Za-z0-9._-]*) die "a login role or a plugin's name may hold A-Z a-z 0-9 . _ -: $name" ;;
		esac
	done
	case $NAME_PREFIX in
	*[!a-z0-9._-]*) die "NAME_PREFIX may hold a-z 0-9 . _ - (Vault lower-cases names of policies): $NAME_PREFIX" ;;
	esac
	case $JWT_ROLE_PREFIX in
	*[!A-Za-z0-9._:/-]*) die "JWT_ROLE_PREFIX may hold A-Z a-z 0-9 . _ : / -: $JWT_ROLE_PREFIX" ;;
	esac
	# Vault drops the blanks around an audience, and a JWT never has the empty one.
	case ,$(printf '%s' "$JWT_AUDIENCE" | tr -d '[:space:]'), in
	*,,*) [ -z "$JWT_AUDIENCE" ] || die "JWT_AUDIENCE is audiences separated by commas, none of them empty: $JWT_AUDIENCE" ;;
	esac
	for role in $DEK_ROLES; do
		case $role in
		*[!a-z_]*) die "DEK_ROLES: there is no role $role" ;;
		esac
		[ -f "$here/policies/$role.hcl" ] || die "DEK_ROLES: there is no role $role"
	done
	case $KV_FACE in
	'' | 0 | 1) ;;
	*) die "KV_FACE is 1 or nothing" ;;
	esac
	case $FORCE in
	'' | 0 | 1) ;;
	*) die "FORCE is 1 or nothing" ;;
	esac
}
