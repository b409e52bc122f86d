# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: what the variables may hold, so that nothing in them is a
# path, a pattern or a command of its own.

# seconds DURATION prints how many seconds that is, as Vault reads it: a number of
# seconds or days, or numbers with units from hours down. It fails for anything else, 0,
# and what is too long for Vault. Vault takes milliseconds, too, but keeps seconds, of
# which 0 is its own default of 32 days; to the vault command a 0 is no setting at all.
seconds() {
	case $1 in
	*[!0-9smhd]*) return 1 ;;
	esac
	printf '%s\n' "$1" | awk '
		/^[0-9]+$/ { $0 = $0 "s" }
		!/^([0-9]+d|([0-9]+[hms])+)$/ { exit 1 }
		{
			each["s"] = 1; each["m"] = 60; each["h"] = 3600; each["d"] = 86400
			while (match($0, /^[0-9]+/)) {
				sum += substr($0, 1, RLENGTH) * each[substr($0, RLENGTH + 1, 1)]
				$0 = substr($0, RLENGTH + 2)
			}
			if (sum < 1 || sum > 9223372036) exit 1
			printf "%.0f\n", sum
		}'
}

# check_sessions TTL MAX_TTL [WHENCE] refuses sessions that would live longer than they
# may. WHENCE says where a value comes from that is not a variable's.
check_sessions() {
	[ "$(seconds "$1")" -le "$(seconds "$2")" ] ||
		die "USERPASS_TTL must not be above USERPASS_MAX_TTL: $1 is more than $2${3:+ ($3)}"
}

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
	# The vault command resolves . and .. and drops empty parts, but policies and the marks
	# of this script take the path as it is: they would be of another mount.
	for variable in DEK_MOUNT JWT_MOUNT USERPASS_MOUNT; do
		eval "path=\$$variable"
		[ -n "$path" ] || continue
		case /$path/ in
		*[!A-Za-z0-9._/-]* | *//* | */./* | */../*)
			die "$variable is parts of A-Z a-z 0-9 . _ - with / in between, none of them empty, . or ..: $path"
			;;
		esac
	done
	for variable in JWT_ROLE PLUGIN_NAME; do
		eval "name=\$$variable"
		case $name in
		*[!A-Za-z0-9._-]* | [.-]* | *[.-]) die "$variable may hold A-Z a-z 0-9 . _ -, and neither begins nor ends with . or -: $name" ;;
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
	for variable in JWT_TOKEN_TTL USERPASS_TTL USERPASS_MAX_TTL; do
		eval "ttl=\$$variable"
		[ -z "$ttl" ] || seconds "$ttl" >/dev/null ||
			die "$variable is a duration above 0, in seconds (900), with the units h, m and s (30m, 1h30m) or in days (7d): $ttl"
	done
	[ -z "$USERPASS_TTL" ] || [ -z "$USERPASS_MAX_TTL" ] || check_sessions "$USERPASS_TTL" "$USERPASS_MAX_TTL"
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
