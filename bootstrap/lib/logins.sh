# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: the auth mounts, and what a login brings along.

description='Logins for vault-plugin-dek, made by its bootstrap.sh'

# check_logins looks at all that could be refused and changes nothing. It leaves
# the accessor of the auth mount, if that is there, in accessor.
check_logins() {
	check_auth jwt "$JWT_MOUNT"
	[ -z "$USERPASS_MOUNT" ] || check_userpass
	accessor=$(read_field accessor "sys/auth/$JWT_MOUNT")
	jobs=
	for role in $DEK_ROLES; do
		check_role "$role" "$accessor" &
		jobs="$jobs $!"
	done
	check_jwt
	check_login "$JWT_ROLE" groups_claim roles
	for role in $bound_roles; do
		! is_wanted "$role" || check_login "$JWT_ROLE-$role" token_policies "[$(policy_name "$role")]" \
			bound_claims "map[roles:$JWT_ROLE_PREFIX$role tenant_id:$any_uuid]" bound_claims_type glob
	done
	for job in $jobs; do wait "$job"; done
}

setup_logins() {
	if [ -z "$accessor" ]; then
		enable_auth jwt "$JWT_MOUNT"
		accessor=$(read_field accessor "sys/auth/$JWT_MOUNT")
	fi
	jobs=
	for role in $DEK_ROLES; do
		setup_role "$role" "$accessor" &
		jobs="$jobs $!"
	done
	configure_jwt
	setup_login "$JWT_ROLE" role_type=jwt groups_claim=roles </dev/null
	setup_bound_logins
	[ -z "$USERPASS_MOUNT" ] || setup_userpass
	for job in $jobs; do wait "$job"; done
}

# is_wanted ROLE says whether the role is to be set up.
is_wanted() {
	case " $DEK_ROLES " in
	*" $1 "*) ;;
	*) return 1 ;;
	esac
}

check_auth() {
	type=$(read_field type "sys/auth/$2")
	case $type in
	'' | "$1") ;;
	*) die "auth/$2/ is of type $type, not $1: choose another path" ;;
	esac
}

# check_userpass also completes the lifetimes of sessions. Vault refuses to tune one of them
# against the other where the mount has one of its own; what tune answers where it has
# none is the server's.
check_userpass() {
	check_auth userpass "$USERPASS_MOUNT"
	if [ -z "$type" ]; then
		USERPASS_TTL=${USERPASS_TTL:-30m}
		USERPASS_MAX_TTL=${USERPASS_MAX_TTL:-8h}
		check_sessions "$USERPASS_TTL" "$USERPASS_MAX_TTL" "30m and 8h are the defaults"
	elif [ -n "$USERPASS_TTL$USERPASS_MAX_TTL" ]; then
		own=$(read_field config "sys/auth/$USERPASS_MOUNT" | tr '[ ]' '\n\n\n')
		least=$(printf '%s\n' "$own" | sed -n 's/^default_lease_ttl://p')
		most=$(printf '%s\n' "$own" | sed -n 's/^max_lease_ttl://p')
		whence="auth/$USERPASS_MOUNT/ has ${least}s and ${most}s"
		least=${USERPASS_TTL:-${least}s} most=${USERPASS_MAX_TTL:-${most}s}
		[ "$least" = 0s ] || [ "$most" = 0s ] || check_sessions "$least" "$most" "$whence"
	fi
}

# is_ours PATH says whether this script enabled that auth mount.
is_ours() {
	described=$(read_field description "sys/auth/$1")
	[ "$described" = "$description" ]
}

enable_auth() {
	vault_do auth enable -path="$2" -description="$description" "$1"
	began auth disable "$2"
	say "enabled auth method $2/"
}

# What of a UUID Vault's globs can ask for: no pattern of a policy has four hyphens.
any_uuid='*-*-*-*-*'

# check_login NAME FIELD VALUE... refuses a login role in which these fields are
# others, or the tenant comes from another claim: what a role gives its logins is for
# who made it to change. It leaves the role in a file for setup_login.
check_login() {
	login=$1
	: >"$tmp/login.$login"
	[ -n "$accessor" ] || return 0
	show read "auth/$JWT_MOUNT/role/$login" >"$tmp/login.$login"
	[ -s "$tmp/login.$login" ] || return 0
	others=
	case " $(column claim_mappings <"$tmp/login.$login" | sed -e 's/^map\[//' -e 's/\]$//') " in
	*" tenant_id:tenant_id "*) ;;
	*) others=claim_mappings ;;
	esac
	shift
	while [ $# -gt 0 ]; do
		[ "$(column "$1" <"$tmp/login.$login")" = "$2" ] || others="$others $1"
		shift 2
	done
	if [ -n "$others" ]; then
		refuse_unless_forced "auth/$JWT_MOUNT/role/$login" "${others# } would change. Choose another JWT_ROLE"
		: >"$tmp/remake.$login"
	fi
}

# setup_login NAME FIELD=VALUE... makes a login role, or changes one in what is
# given. It sends what comes on the standard input along, JSON, for a new one.
# Batch tokens: a login writes no token to storage.
setup_login() {
	role=$1
	shift
	before=$(cat "$tmp/login.$role")
	if [ -n "$before" ] && ! [ -f "$tmp/remake.$role" ]; then
		set --
		[ -z "$JWT_AUDIENCE" ] || set -- "$@" bound_audiences="$JWT_AUDIENCE"
		[ -z "$JWT_TOKEN_TTL" ] || set -- "$@" token_ttl="$JWT_TOKEN_TTL"
		[ -z "$JWT_USER_CLAIM" ] || set -- "$@" user_claim="$JWT_USER_CLAIM"
		[ $# -gt 0 ] || return 0
		# These two are set anew by every write.
		vault_do write "auth/$JWT_MOUNT/role/$role" "$@" \
			role_type="$(printf '%s\n' "$before" | column role_type)" \
			bound_claims_type="$(printf '%s\n' "$before" | column bound_claims_type)" </dev/null
	else
		vault_do write "auth/$JWT_MOUNT/role/$role" "$@" \
			bound_audiences="${JWT_AUDIENCE:-vault-plugin-dek}" token_ttl="${JWT_TOKEN_TTL:-15m}" \
			user_claim="${JWT_USER_CLAIM:-sub}" token_type=batch \
			claim_mappings=name=name claim_mappings=email=email claim_mappings=tenant_id=tenant_id
	fi
	show read "auth/$JWT_MOUNT/role/$role" >"$tmp/after"
	if [ -z "$before" ]; then
		say "made login role auth/$JWT_MOUNT/role/$role"
		return
	fi
	changed=$(awk 'NR == FNR { old[$0]; next } !($0 in old)' "$tmp/login.$role" "$tmp/after" | sed 's/  */ /' | tr '\n' ';')
	[ -z "$changed" ] || say "changed login role auth/$JWT_MOUNT/role/$role: ${changed%;}"
}

# setup_bound_logins makes a login role for each role that is bound to a tenant. It
# gives its one policy itself, if the claim roles has it, and no group grows by its
# logins: many tenants have more people and applications than Vault can keep in one
# group. Here the claim tenant_id must be there, and no pattern.
setup_bound_logins() {
	for role in $bound_roles; do
		is_wanted "$role" || continue
		setup_login "$JWT_ROLE-$role" - role_type=jwt token_policies="$(policy_name "$role")" bound_claims_type=glob <<-JSON
			{"bound_claims": {"roles": "$JWT_ROLE_PREFIX$role", "tenant_id": "$any_uuid"}}
		JSON
	done
}

# Sessions that people have opened with a password end after half an hour without
# renewal, and after eight hours in any case. Vault's default is 32 days.
setup_userpass() {
	type=$(read_field type "sys/auth/$USERPASS_MOUNT")
	if [ -z "$type" ]; then
		enable_auth userpass "$USERPASS_MOUNT"
	fi
	set --
	[ -z "$USERPASS_TTL" ] || set -- "$@" -default-lease-ttl="$USERPASS_TTL"
	[ -z "$USERPASS_MAX_TTL" ] || set -- "$@" -max-lease-ttl="$USERPASS_MAX_TTL"
	if [ $# -gt 0 ]; then
		vault_do auth tune "$@" "$USERPASS_MOUNT"
		say "sessions of auth/$USERPASS_MOUNT/: $(echo "$*" | sed -e 's/-default-lease-ttl=//' -e 's/ -max-lease-ttl=/, at most /' -e 's/-max-lease-ttl=/at most /')"
	fi
	most=$(read_field max_lease_ttl "sys/auth/$USERPASS_MOUNT/tune")
	[ "$most" -le 28800 ] || say "note: sessions of auth/$USERPASS_MOUNT/ live up to $((most / 3600)) h: USERPASS_MAX_TTL=8h shortens that"
}
