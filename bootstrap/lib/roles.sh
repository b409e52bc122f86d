# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Part of bootstrap.sh: for each role a policy, and an external group that has it.
# Both carry a mark by which the script knows its own.

# mark is the first line of a policy made here. Another mount's says another mount.
mark() { echo "# Made by bootstrap.sh of vault-plugin-dek for $DEK_MOUNT/ and auth/$JWT_MOUNT/, which replaces it."; }

# maker is what a group made here has in its metadata.
maker() { echo "bootstrap.sh of $DEK_MOUNT/"; }

policy_name() { echo "$NAME_PREFIX$1"; }

# group_of_claim ROLE ACCESSOR prints the name of the group that logins with that
# role are in now.
group_of_claim() {
	group=$(show write -field=name identity/lookup/group alias_name="$JWT_ROLE_PREFIX$1" alias_mount_accessor="$2")
	case $group in
	Success!*) ;;
	*) printf '%s\n' "$group" ;;
	esac
}

# check_role ROLE ACCESSOR refuses to touch a policy or a group of somebody else, and
# leaves what it saw in files for setup_role. ACCESSOR is empty while the auth mount
# is still to be enabled.
check_role() {
	name=$(policy_name "$1")
	policy=$(show policy read "$name")
	case $policy in
	'' | "$(mark)"*) ;;
	*) refuse_unless_forced "policy $name" "its first line is another" ;;
	esac
	group=$(show read "identity/group/name/$name")
	case $group in
	'' | *"managed_by:$(maker)"*) ;;
	*) refuse_unless_forced "group $name" "its metadata say otherwise" ;;
	esac
	# The alias of an auth mount that is gone has no mount_path.
	case $group in
	*"mount_accessor:${2:-none} "*) ;;
	*mount_path:*) die "group $name is tied to another auth mount: set NAME_PREFIX" ;;
	esac
	tied=
	case $group in
	*"mount_accessor:${2:-none} "*" name:$JWT_ROLE_PREFIX$1]"* | *"mount_accessor:${2:-none} "*" name:$JWT_ROLE_PREFIX$1 "*) tied=$name ;;
	*) [ -z "$2" ] || tied=$(group_of_claim "$1" "$2") ;;
	esac
	case $tied in
	'' | "$name") ;;
	*) refuse_unless_forced "group $tied" "it is what logins at auth/$JWT_MOUNT/ with the role $JWT_ROLE_PREFIX$1 are in; group $name is to be" ;;
	esac
	printf '%s\n' "$policy" >"$tmp/policy.$1"
	printf '%s\n' "$group" >"$tmp/group.$1"
	printf '%s\n' "$tied" >"$tmp/tied.$1"
}

setup_policy() {
	mark >"$tmp/$1.hcl"
	sed -e "s|@MOUNT@|$DEK_MOUNT|g" -e "s|@JWT_ACCESSOR@|$2|g" "$here/policies/$1.hcl" >>"$tmp/$1.hcl"
	if ! cmp -s "$tmp/policy.$1" "$tmp/$1.hcl"; then
		vault_do policy write "$name" "$tmp/$1.hcl"
		say "wrote policy $name"
	fi
}

# rename_group renames the group that has the alias under another name. Its members stay
# in it until their next login, so one left behind would go on giving them what it
# gave.
rename_group() {
	id=$(read_field id "identity/group/name/$tied")
	vault_do write "identity/group/id/$id" name="$name" policies="$name" metadata=managed_by="$(maker)"
	say "renamed group $tied to $name, with the policy $name alone; a policy $tied may be deleted"
}

# setup_group ROLE ACCESSOR: the external group whose alias is the value of the
# roles claim. Policies that someone else gave the group stay.
setup_group() {
	group=$(cat "$tmp/group.$1")
	policies=$(printf '%s\n' "$group" | column policies | tr -d '[]')
	case " $policies " in
	*" $name "*) missing= ;;
	*)
		missing=yes
		policies="$policies $name"
		;;
	esac
	case $group in
	*"managed_by:$(maker)"*) ;;
	*) missing=yes ;;
	esac
	if [ -n "$missing" ]; then
		# shellcheck disable=SC2086 # names of policies, one a word
		vault_do write identity/group name="$name" type=external metadata=managed_by="$(maker)" \
			policies="$(echo $policies | tr ' ' ',')"
		say "gave group $name the policy $name"
	fi
	if [ -z "$tied" ]; then
		id=$(read_field id "identity/group/name/$name")
		vault_do write identity/group-alias name="$JWT_ROLE_PREFIX$1" mount_accessor="$2" canonical_id="$id"
		say "tied group $name to the role $JWT_ROLE_PREFIX$1 of JWTs"
	fi
}

# setup_role ROLE ACCESSOR: the policy first, so that a group never has one of that
# name that says something else.
setup_role() {
	name=$(policy_name "$1")
	tied=$(cat "$tmp/tied.$1")
	setup_policy "$1" "$2"
	if [ -n "$tied" ] && [ "$tied" != "$name" ]; then
		rename_group
	else
		setup_group "$1" "$2"
	fi
}
