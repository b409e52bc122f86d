#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Builds a release into dist/: for every platform the plugin, the proxy and the command,
# an archive of them, their SBOMs and provenance; Debian packages of the proxy, an OCI
# layout of the plugin, and the SHA-256 of all in dist/SHA256SUMS. docs/releasing.md says
# more. The same commit gives the same bytes on every machine, since go.mod says which Go
# builds it: another one that is installed fetches that.
#
#   SIGNING_KEY        an SSH key (the private one, or the public one of an agent's) that
#                      signs SHA256SUMS; without it the archives say that they are unsigned.
#                      Only a commit is signed; provenance names the version's tag if that
#                      names the commit
#   RELEASE_PLATFORMS  such as "linux/amd64 linux/arm64"; all four if it is empty
#   SOURCE_DATE_EPOCH  the time that files are dated with; the commit's if it is empty
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}

scripts/tool.sh cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod sbom
COMMIT=$(scripts/commit.sh)
# A file that no commit has would be compiled or packed, too, also one that git ignores. Of
# the root's own files these are Go's alone.
stray=$(git ls-files --others -- . ':!bin' ':!dist' ':!.dev' 2>/dev/null | grep -E '/|\.go$|^go\.' | head -n 1)
if [ -n "$stray" ]; then
	echo "release: $stray belongs to no commit" >&2
	COMMIT=${COMMIT%-dirty}-dirty
fi
TAGS=$(git tag --points-at HEAD 2>/dev/null || true)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || true)}
SBOM_TOOL=$PWD/bin/cyclonedx-gomod
export GO COMMIT TAGS SOURCE_DATE_EPOCH SBOM_TOOL
# The builds do not read Go's settings, which would get into them; where modules come from
# and lie is handed on.
for name in GOPROXY GOSUMDB GONOPROXY GONOSUMDB GOPRIVATE GOINSECURE GOMODCACHE GOCACHE; do
	export "$name=$($GO env $name)"
done
GOTOOLCHAIN=$(sed -n 's/^toolchain //p' go.mod)
export GOTOOLCHAIN
exec $GO run -buildvcs=false ./internal/release/cmd/release
