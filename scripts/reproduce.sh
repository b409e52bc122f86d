#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Builds the release of this commit twice, in two directories, with a build cache each, and
# compares every byte. RELEASE_PLATFORMS names platforms; all four take some ten minutes on
# two cores. With DIST, the directory of a downloaded release, it is built
# once and compared with that. A signature is left out of the comparison; whether there is
# one is not, since it is said in the archives: any key makes the same archives.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}
repository=$PWD
commit=$(git rev-parse HEAD) # once: a developer may commit while it builds

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM # which some shells end at without the above: it is some gigabytes

build() {
	mkdir -p "$work/$1"
	git clone --quiet --no-hardlinks "$repository" "$work/$1/source"
	git -C "$work/$1/source" checkout --quiet "$commit"
	# The tool that writes SBOMs is built once; what it writes is compared.
	if [ -x bin/cyclonedx-gomod ]; then
		mkdir "$work/$1/source/bin"
		cp -p bin/cyclonedx-gomod bin/.cyclonedx-gomod.stamp "$work/$1/source/bin/"
	fi
	GOCACHE=$work/$1/cache "$work/$1/source/scripts/release.sh" >"$work/$1/log" || {
		cat "$work/$1/log"
		return 1
	}
}

if [ -n "${DIST:-}" ] && [ -e "$DIST/SHA256SUMS.sig" ] && [ -z "${SIGNING_KEY:-}" ]; then
	ssh-keygen -q -t ed25519 -N '' -f "$work/key"
	SIGNING_KEY=$work/key
	export SIGNING_KEY
fi
build one
if [ -n "${DIST:-}" ]; then
	other=$DIST
else
	build a/second/place
	other=$work/a/second/place/source/dist
fi
cat "$work/one/source/dist/SHA256SUMS"
if ! diff -r --exclude=SHA256SUMS.sig "$work/one/source/dist" "$other"; then
	echo "reproduce: the builds differ" >&2
	exit 1
fi
echo "reproduce: every byte is the same"
