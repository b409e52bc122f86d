# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: what the server itself is good for, at the end.

# check_server says what of the server an operator has to know.
check_server() {
	server=$("$VAULT_BIN" status 2>/dev/null | column Version) || server=
	# Vault refuses a wildcard there from 2.0.1 and Enterprise from 1.21.6 on, OpenBao
	# from 2.6. The version does not tell the two apart.
	case $server in
	1.21.[0-5] | 1.21.[0-5]+* | 1.21.[0-5]-* | 1.[0-9].* | 1.1[0-9].* | 1.20.* | 2.0.0*) patterns="server $server" ;;
	1.*+ent*) patterns= ;;
	1.*) patterns="server $server" ;;
	2.[0-5].*) patterns="if it is OpenBao, server $server" ;;
	*) patterns= ;;
	esac
	[ -z "$patterns" ] ||
		say "note: $patterns takes patterns in a claim into policies: the issuer of JWTs must see to it that tenant_id is a UUID (README.md)"
	check_strings
}

# check_strings sends a body with 1,100 strings, which OpenBao's listener refuses by
# default: bulk writes and batches have up to 10,000 entries.
check_strings() {
	paths=$(awk 'BEGIN { for (i = 0; i < 1100; i++) printf "%s\"sys/health\"", i ? "," : "" }')
	if ! out=$(echo "{\"paths\": [$paths]}" | "$VAULT_BIN" write -format=json sys/capabilities-self - 2>&1 >/dev/null); then
		say "note: the server refuses a body of 1,100 strings, so large bulk writes and batches fail. OpenBao's listener takes max_request_json_strings: $(printf '%s\n' "$out" | tail -n 1)"
	fi
}

# prove_writable writes a setting to the mount as it reads. A server that took the
# mount up while its plugin could not be started (another hash than the registered
# one, a missing file) lets it read and refuses every write until it takes it up
# anew.
prove_writable() {
	tries=5
	while :; do
		if setting=$("$VAULT_BIN" read -field=max_concurrent_rotations "$DEK_MOUNT/config" 2>&1) &&
			setting=$("$VAULT_BIN" write "$DEK_MOUNT/config" max_concurrent_rotations="$setting" 2>&1); then
			return
		fi
		case $setting in
		*"cannot write to storage during setup"* | *"read-only"* | *"step down"*) read_only "$setting" ;;
		esac
		# Right after a reload the plugin may still be starting.
		tries=$((tries - 1))
		[ $tries -gt 0 ] || die "$DEK_MOUNT/ cannot be written: $setting"
		sleep 1
	done
}

read_only() {
	cat >&2 <<-TEXT
		bootstrap: $DEK_MOUNT/ can be read but NOT written: $(printf '%s\n' "$1" | tail -n 1)
		bootstrap: Vault took the mount up while its plugin could not be started, and holds it
		bootstrap: read-only since. Let the active node step down (vault operator step-down), or
		bootstrap: restart or seal and unseal it where it is alone, then run this script again.
	TEXT
	exit 3
}
