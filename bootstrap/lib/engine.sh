# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: the plugin in Vault's catalog, and its mount.

plugin_sha256() {
	if [ -n "$PLUGIN_SHA256" ]; then
		echo "$PLUGIN_SHA256"
	elif command -v sha256sum >/dev/null 2>&1; then
		sha256sum <"$PLUGIN_FILE" | cut -d ' ' -f 1
	else
		shasum -a 256 <"$PLUGIN_FILE" | cut -d ' ' -f 1
	fi
}

# catalog_version NAME prints "version:V" of the plugin registered under that name
# with our hash, V empty if it has none, and nothing if it is not registered. A
# plugin tells Vault its version when it is registered, so there may be several.
catalog_version() {
	catalog=$(in_catalog read_field detailed sys/plugins/catalog)
	printf '%s\n' "$catalog" | tr '[' '\n' |
		grep " name:$1 .*sha256:$sha .*type:secret" |
		sed -n 's/.* \(version:[^] ]*\).*/\1/p' | tail -n 1
}

# check_engine looks at what is there and changes nothing.
check_engine() {
	type=$(read_field type "sys/mounts/$DEK_MOUNT")
	if [ -n "$type" ] && [ "$type" != "$PLUGIN_NAME" ]; then
		die "$DEK_MOUNT/ is a mount of $type: choose another DEK_MOUNT"
	fi
}

# setup_engine has the mount run the plugin that was named. What runs is what the
# catalog says, so the new hash is registered before anything is reloaded, and the
# hash that runs (not the catalog's) decides whether to reload: a run that stopped
# in between is made good.
setup_engine() {
	sha=$(plugin_sha256)
	command=$PLUGIN_NAME
	[ -z "$PLUGIN_FILE" ] || command=$(basename -- "$PLUGIN_FILE")
	type=$(read_field type "sys/mounts/$DEK_MOUNT")

	entry=$(catalog_version "$PLUGIN_NAME")
	registered=
	[ -z "$entry" ] || registered=$(basename -- "$(catalog_field command "${entry#version:}")")
	args=${PROVIDER_SOCKETS:+-provider-sockets=$PROVIDER_SOCKETS}
	other_args=
	if [ -n "$args" ] && [ "$registered" = "$command" ] && [ "$(registered_args "${entry#version:}")" != "$args" ]; then
		other_args=yes
	fi
	if [ "$registered" != "$command" ] || [ -n "$other_args" ]; then
		[ -z "$type" ] || probe_plugin
		[ -z "$type" ] || [ -n "$args" ] || args=$(mounted_args)
		in_catalog vault_do plugin register -sha256="$sha" -command="$command" ${args:+"-args=$args"} secret "$PLUGIN_NAME"
		entry=$(catalog_version "$PLUGIN_NAME")
		[ -n "$entry" ] || die "registered $PLUGIN_NAME, but Vault's catalog does not show it"
		say "registered $PLUGIN_NAME ${entry#version:}, command $command, SHA-256 $sha"
	fi
	version=${entry#version:}
	if [ -z "$type" ]; then
		vault_do secrets enable -path="$DEK_MOUNT" -description="$DEK_DESCRIPTION" \
			-plugin-version="$version" "$PLUGIN_NAME"
		began secrets disable "$DEK_MOUNT"
		say "mounted $DEK_MOUNT/"
	else
		upgrade_mount
	fi
	allow_headers
	[ "$KV_FACE" != 1 ] || show_kv_face
}

# allow_headers lets answers of 429 say when to send the request again: Vault drops
# headers that a mount does not allow.
allow_headers() {
	# A mount that allows none has no such field.
	allowed=$("$VAULT_BIN" read -field=allowed_response_headers "sys/mounts/$DEK_MOUNT/tune" 2>/dev/null) || allowed=
	case $allowed in
	*[Rr]etry-[Aa]fter*) ;;
	"" | "[]" | n/a)
		vault_do secrets tune -allowed-response-headers=Retry-After "$DEK_MOUNT"
		say "allowed the header Retry-After in answers of $DEK_MOUNT/"
		;;
	*) say "note: allowed_response_headers of $DEK_MOUNT/ lacks Retry-After, which answers of 429 have" ;;
	esac
}

# show_kv_face lets Vault tell clients that the mount is one of KV version 2, as which
# the engine serves it in any case.
show_kv_face() {
	# A mount without options has no such field.
	options=$("$VAULT_BIN" read -field=options "sys/mounts/$DEK_MOUNT" 2>/dev/null) || options=
	case $options in
	*version:2*) return ;;
	esac
	vault_do secrets tune -options=version=2 "$DEK_MOUNT"
	say "Vault says of $DEK_MOUNT/ that it is KV version 2 from now on: vault kv asks for its data/ and metadata/. Vault does not take that back"
}

# catalog_field FIELD VERSION prints a field of the plugin's entry in the catalog, of that
# version or of none.
catalog_field() {
	in_catalog read_field "$1" "sys/plugins/catalog/secret/$PLUGIN_NAME" ${2:+"version=$2"}
}

# registered_args VERSION prints what the plugin is started with.
registered_args() {
	catalog_field args "$1" | sed -n 's/^\[\(.*\)\]$/\1/p'
}

# mounted_args prints what the plugin that the mount runs is started with: an upgrade keeps
# it.
mounted_args() {
	mounted=$(read_field plugin_version "sys/mounts/$DEK_MOUNT")
	[ "$mounted" != n/a ] || mounted=
	registered_args "$mounted"
}

# probe_plugin starts the plugin once, under another name and at a mount of its
# own, before the catalog or the real mount knows of it: one that cannot be started
# (a missing file, another hash, another machine's binary) would end the mount, at
# the latest when Vault takes it up again.
probe_plugin() {
	probe=$PLUGIN_NAME-probe
	in_catalog vault_do plugin register -sha256="$sha" -command="$command" secret "$probe"
	probed=$(catalog_version "$probe")
	began plugin deregister "-version=${probed#version:}" secret "$probe"
	failed=
	out=$("$VAULT_BIN" secrets enable -path="$probe-$$" -plugin-version="${probed#version:}" "$probe" 2>&1) || failed=yes
	[ -n "$failed" ] || vault_do secrets disable "$probe-$$"
	in_catalog vault_do plugin deregister -version="${probed#version:}" secret "$probe"
	rm -f "$tmp"/began.plugin*
	[ -z "$failed" ] || die "Vault cannot start $command, so nothing was changed: $out"
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
	if [ "$mounted" != "$version" ] || [ "$running" != "$sha" ] || [ -n "$other_args" ] || ! served; then
		# Not `vault plugin reload -mounts`: 1.21's sends it where no server listens.
		vault_do write sys/plugins/reload/backend mounts="$DEK_MOUNT/"
		say "reloaded $DEK_MOUNT/"
	fi
}

# served tells whether the plugin serves the mount. Vault shows the hash of a mount also
# where it took that up while the plugin could not be started: then nothing is there, not
# even config.
served() {
	out=$("$VAULT_BIN" read "$DEK_MOUNT/config" 2>&1) && return
	case $out in
	*"No value found"*) return 1 ;;
	esac
}
