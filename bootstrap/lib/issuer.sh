# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: whose JWTs are taken, and with which keys they are verified.

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
	case $source in
	jwt_validation_pubkeys) drop="$drop jwks_url jwks_ca_pem oidc_discovery_url oidc_discovery_ca_pem jwks_pairs " ;;
	jwks_url) drop="$drop jwt_validation_pubkeys oidc_discovery_url oidc_discovery_ca_pem jwks_pairs " ;;
	oidc_discovery_url) drop="$drop jwt_validation_pubkeys jwks_url jwks_ca_pem jwks_pairs " ;;
	esac
	set --
	while IFS=' ' read -r field value; do
		set -- "$@" "$field=$value"
	done <"$tmp/changes"
	kept_config "$drop" <"$tmp/config.json" | vault_do write "auth/$JWT_MOUNT/config" - "$@"
	say "configured auth/$JWT_MOUNT/: ${names% }"
	if ! is_ours "$JWT_MOUNT"; then
		vault_do auth tune -description="$description" "$JWT_MOUNT"
		say "took auth/$JWT_MOUNT/ over: its description says so"
	fi
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
