# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: the auth mounts, where JWTs are verified, and what a login
# brings along.

description='Logins for vault-plugin-dek, made by its bootstrap.sh'

# check_logins looks at all that could be refused and changes nothing. It leaves
# the accessor of the auth mount, if that is there, in accessor.
check_logins() {
	check_auth jwt "$JWT_MOUNT"
	[ -z "$USERPASS_MOUNT" ] || check_auth userpass "$USERPASS_MOUNT"
	accessor=$(read_field accessor "sys/auth/$JWT_MOUNT")
	jobs=
	for role in $DEK_ROLES; do
		check_role "$role" "$accessor" &
		jobs="$jobs $!"
	done
	check_jwt
	check_login "$JWT_ROLE" groups_claim roles
	for role in $bound_roles; do
		! is_wanted "$role" || check_login "$JWT_ROLE-$role" token_policies "[$(policy_name "$role")]"
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

# check_jwt decides what of the configuration is to change, and leaves it in the
# file changes, a line each: the name of the field, a blank, the value for the
# vault command. A configuration that is there changes in what is given and differs.
check_jwt() {
	: >"$tmp/changes"
	: >"$tmp/config.json"
	config=
	if [ -n "$accessor" ]; then
		config=$(show read "auth/$JWT_MOUNT/config")
		show read -format=json "auth/$JWT_MOUNT/config" >"$tmp/config.json"
	fi
	key_source
	[ -z "$JWT_ISSUER" ] || [ "$(printf '%s\n' "$config" | column bound_issuer)" = "$JWT_ISSUER" ] ||
		echo "bound_issuer $JWT_ISSUER" >>"$tmp/changes"
	if [ -z "$config" ]; then
		[ -n "$source" ] || die "set JWT_PUBKEY_FILE, JWT_JWKS_URL or JWT_OIDC_DISCOVERY_URL: auth/$JWT_MOUNT/ is not configured yet"
		echo "default_role $JWT_ROLE" >>"$tmp/changes"
	elif [ -s "$tmp/changes" ]; then
		is_ours "$JWT_MOUNT" ||
			refuse_unless_forced "auth/$JWT_MOUNT/config" "it would change in $(cut -d ' ' -f 1 "$tmp/changes" | sort -u | tr '\n' ' ')"
		case $(printf '%s\n' "$config" | column oidc_client_id) in
		'' | n/a) ;;
		*) die "auth/$JWT_MOUNT/config has an OIDC client, whose secret Vault does not show: change it by hand" ;;
		esac
	fi
}

# key_source adds where the keys are that JWTs are verified with.
key_source() {
	source=
	if [ -n "$JWT_PUBKEY_FILE" ]; then
		source='jwt_validation_pubkeys'
		awk -v dir="$tmp" '/^-----BEGIN/ { n++ } n { print > (dir "/pubkey." n) }' "$JWT_PUBKEY_FILE"
		[ -f "$tmp/pubkey.1" ] || die "JWT_PUBKEY_FILE: no PEM block in $JWT_PUBKEY_FILE"
		given=$(cat "$tmp"/pubkey.* | tr -d ' \n')
		present=$([ -z "$config" ] || read_field jwt_validation_pubkeys "auth/$JWT_MOUNT/config" | tr -d '[] \n')
		if [ "$given" != "$present" ]; then
			for key in "$tmp"/pubkey.*; do printf '%s\n' "$source @$key" >>"$tmp/changes"; done
		fi
	elif [ -n "$JWT_JWKS_URL" ]; then
		source=jwks_url
		url_source "$JWT_JWKS_URL" jwks_ca_pem
	elif [ -n "$JWT_OIDC_DISCOVERY_URL" ]; then
		source=oidc_discovery_url
		url_source "$JWT_OIDC_DISCOVERY_URL" oidc_discovery_ca_pem
	fi
}

# url_source URL CA_FIELD
url_source() {
	[ "$(printf '%s\n' "$config" | column "$source")" = "$1" ] || printf '%s\n' "$source $1" >>"$tmp/changes"
	[ -n "$JWT_CA_FILE" ] || return 0
	present=$([ -z "$config" ] || read_field "$2" "auth/$JWT_MOUNT/config")
	[ "$(cat "$JWT_CA_FILE")" = "$present" ] || printf '%s\n' "$2 @$JWT_CA_FILE" >>"$tmp/changes"
}

# configure_jwt writes what check_jwt decided. The auth method takes a whole
# configuration only, so what is there and stays is sent along, but for other
# sources of keys where the source changes.
configure_jwt() {
	[ -s "$tmp/changes" ] || return 0
	names=$(cut -d ' ' -f 1 "$tmp/changes" | sort -u | tr '\n' ' ')
	drop=" $names"
	case $drop in
	*jwt_validation_pubkeys* | *jwks_url* | *oidc_discovery_url*)
		drop="$drop jwt_validation_pubkeys jwks_url jwks_pairs jwks_ca_pem oidc_discovery_url oidc_discovery_ca_pem "
		;;
	esac
	set --
	while IFS=' ' read -r field value; do
		set -- "$@" "$field=$value"
	done <"$tmp/changes"
	kept_config "$drop" <"$tmp/config.json" | vault_do write "auth/$JWT_MOUNT/config" - "$@"
	say "configured auth/$JWT_MOUNT/: $names"
}

# kept_config DROP prints the configuration as JSON without the fields that are
# dropped. The vault command indents what it prints by two blanks a level.
kept_config() {
	awk -v drop="$1" '
		/^  "data": \{$/ { within = 1; next }
		/^  \}/ { within = 0 }
		within && /^    "/ {
			split($0, part, "\"")
			keep = index(drop, " " part[2] " ") == 0
			if (keep) n++
		}
		within && keep { text[n] = text[n] $0 "\n" }
		END {
			printf "{"
			for (i = 1; i <= n; i++) {
				sub(/,?\n$/, "", text[i])
				printf "%s%s", (i == 1 ? "\n" : ",\n"), text[i]
			}
			print "\n}"
		}'
}

mappings='map[email:email name:name tenant_id:tenant_id]'

# check_login NAME FIELD VALUE refuses a login role that is another than this script
# would make: what a role gives its logins is for who made it to change. It leaves the
# role in a file for setup_login.
check_login() {
	: >"$tmp/login.$1"
	[ -n "$accessor" ] || return 0
	show read "auth/$JWT_MOUNT/role/$1" >"$tmp/login.$1"
	present=$(cat "$tmp/login.$1")
	[ -n "$present" ] || return 0
	if [ "$(printf '%s\n' "$present" | column claim_mappings)" != "$mappings" ] || [ "$(printf '%s\n' "$present" | column "$2")" != "$3" ]; then
		refuse_unless_forced "auth/$JWT_MOUNT/role/$1" "claim_mappings or $2 are others. Choose another JWT_ROLE"
		: >"$tmp/remake.$1"
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
# group. Here the claim tenant_id must be there, and of a UUID's shape as far as
# Vault can tell: no pattern has four hyphens.
setup_bound_logins() {
	for role in $bound_roles; do
		is_wanted "$role" || continue
		setup_login "$JWT_ROLE-$role" - role_type=jwt token_policies="$(policy_name "$role")" bound_claims_type=glob <<-JSON
			{"bound_claims": {"roles": "$JWT_ROLE_PREFIX$role", "tenant_id": "*-*-*-*-*"}}
		JSON
	done
}

# Sessions that people have opened with a password end after half an hour without
# renewal, and after eight hours in any case. Vault's default is 32 days.
setup_userpass() {
	type=$(read_field type "sys/auth/$USERPASS_MOUNT")
	if [ -z "$type" ]; then
		enable_auth userpass "$USERPASS_MOUNT"
		USERPASS_TTL=${USERPASS_TTL:-30m}
		USERPASS_MAX_TTL=${USERPASS_MAX_TTL:-8h}
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
