#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs a short form of the acceptance tests: what a server of another version could change.
# DEV_VAULT_VERSION names a Vault that make vault has left at bin/vault-VERSION; otherwise it
# is bin/vault, or VAULT_BIN.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}
if [ -n "${DEV_VAULT_VERSION:-}" ]; then
	VAULT_BIN=$PWD/bin/vault-$DEV_VAULT_VERSION
	export VAULT_BIN
fi
export DEK_SHORT_FORM=1 # for the record of what was run
contract='Item.*|Tenant.*|Rotation.*|SecondRotation|Idempotency|Encrypt|Datakey|Config|DEK|PathTricks|UnknownPaths|Proxy(Rotate|During|Accepts|Roles)'
exec $GO test -tags acceptance -count=1 -timeout 30m \
	-run "^Test(Contract($contract)|KV(AnswersAsKVDoes|CommandLine|GoClient|AgentTemplate)|RaftSurvives|CrashDuringRotation|Demo|BootstrapTwiceChangesNothing|Upgrade|LargeTokens.*)\$" \
	./test/acceptance/...
