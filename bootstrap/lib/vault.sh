# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: speaking to Vault, and taking back what a run that failed
# had begun.

die() {
	printf 'bootstrap: %s\n' "$*" >&2
	exit 1
}

say() { printf 'bootstrap: %s\n' "$*"; }

# forget_client_settings leaves of the client's variables those that say where
# Vault is and who asks. VAULT_FORMAT, VAULT_WRAP_TTL and others change what the
# vault command prints, which is read here. OpenBao's command knows the same under
# another name.
forget_client_settings() {
	for name in $(env | sed -n -e 's/^\(VAULT_[A-Za-z0-9_]*\)=.*/\1/p' -e 's/^\(BAO_[A-Za-z0-9_]*\)=.*/\1/p'); do
		case ${name#*_} in
		ADDR | AGENT_ADDR | PROXY_ADDR | HTTP_PROXY | TOKEN | NAMESPACE | BIN) ;;
		CACERT | CACERT_BYTES | CAPATH | CLIENT_CERT | CLIENT_KEY | TLS_SERVER_NAME | SKIP_VERIFY) ;;
		SRV_LOOKUP | DISABLE_REDIRECTS | CLIENT_TIMEOUT | MAX_RETRIES | RATE_LIMIT) ;;
		*) unset "$name" ;;
		esac
	done
	export VAULT_CLI_NO_COLOR=1 BAO_CLI_NO_COLOR=1
}

# vault_do ARGS... runs a vault command and shows its output only if it fails.
vault_do() {
	out=$("$VAULT_BIN" "$@" 2>&1) || die "vault $1 $2: $out"
}

# What Vault answers is printed with printf: echo may take its backslashes for escapes.

# in_catalog COMMAND... runs a command of this script in the namespace that has the catalog
# of plugins: the root namespace, if PLUGIN_NAMESPACE names no other. The mount, the logins
# and the policies are in VAULT_NAMESPACE.
in_catalog() (
	unset VAULT_NAMESPACE BAO_NAMESPACE
	if [ -n "$PLUGIN_NAMESPACE" ]; then
		VAULT_NAMESPACE=$PLUGIN_NAMESPACE
		export VAULT_NAMESPACE
	fi
	"$@"
)

# show ARGS... prints what a vault command does, or nothing where what it asks for
# does not exist. Every other failure (sealed, out of reach, forbidden) is one,
# and never mistaken for "not there".
show() {
	if out=$("$VAULT_BIN" "$@" 2>&1); then
		printf '%s\n' "$out"
		return
	fi
	case $out in
	*"No value found"* | *"No secret engine mount"* | *"No auth engine"* | *"No policy named"*) ;;
	*) die "vault $1 $2: $out" ;;
	esac
}

# read_field FIELD PATH [NAME=VALUE...] prints a field of a Vault path, or nothing
# where the path does not exist.
read_field() {
	field=$1
	shift
	show read -field="$field" "$@"
}

# column NAME prints the value of a name in a table of the vault command, read from
# the standard input.
column() { sed -n "s|^$1  *||p"; }

# refuse_unless_forced WHAT WHY ends the script rather than replace what somebody
# else made.
refuse_unless_forced() {
	[ "$FORCE" = 1 ] || die "$1 was not made by this script for $DEK_MOUNT/: $2. FORCE=1 takes it over"
}

# began WORDS... notes how finish takes back what was just enabled, if the run fails:
# the words of a vault command.
began() {
	echo "$*" >"$tmp/began.$(echo "$*" | tr -c 'A-Za-z0-9\n' '_')"
}

# finish STATUS ends the script. A run that failed leaves no mount that it had only
# just enabled: nobody can have used it.
finish() {
	trap - EXIT
	wait
	if [ "$1" -ne 0 ]; then
		for begun in "$tmp"/began.*; do
			[ -f "$begun" ] || continue
			words=$(cat "$begun")
			run=
			case $words in
			"plugin "*) run=in_catalog ;;
			esac
			# shellcheck disable=SC2086 # words of a command; paths have no blanks
			if $run "$VAULT_BIN" $words >/dev/null 2>&1; then
				echo "bootstrap: took back what had been begun: vault $words" >&2
			else
				echo "bootstrap: could not take back what had been begun: vault $words" >&2
			fi
		done
	fi
	rm -rf "$tmp"
	exit "$1"
}
