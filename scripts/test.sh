#!/bin/sh
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Runs the unit tests, every crash point, the whole damage matrix, fleets of full size, and
# the acceptance tests, in full on one Vault and in a short form on the oldest that is
# supported. The race detector needs cgo and a C compiler; where they are missing
# the tests run without it. Under it a sample of the crash points and of the matrix is tried,
# and fleets are small: that takes ten times as long, and races do not hide at one point in
# particular.
set -eu

cd "$(dirname -- "$0")/.."
GO=${GO:-go}

export GO
race=-race
reason=$(scripts/cgo.sh) || race=
if [ -z "$race" ]; then
	echo "test: $reason, so the race detector and dek-kms-pkcs11 are left out"
fi

step() {
	echo "test: $1"
	shift
	started=$(date +%s)
	"$@"
	echo "test: done in $(($(date +%s) - started)) s"
}

# The program for PKCS#11 tokens needs cgo, as the race detector does.
pkcs11() {
	scripts/softhsm.sh || true
	make pkcs11 && $GO test -C cmd/dek-kms-pkcs11 $race -timeout 30m ./...
}

# What these steps tried stands in their verbose output, with thousands of lines of
# no interest around it. A run takes one core, since what it draws at random is the
# process's; so the two largest go beside the others.
crash_points() {
	large='^TestEveryCrashPoint(OfTheSchedule)?$'
	$GO test -count=1 -timeout 30m -v -run "$large" ./backend/internal/enginetest/crash >"$out/largest" 2>&1 &
	largest=$!
	failed=
	$GO test -count=1 -timeout 30m -v -skip "$large" \
		-run 'EveryCrashPoint|FailoverAtEveryWrite|Stalled|SeedReproduces|DamageMatrix|ConcurrentClients|YearOfAFleet|BesideDamage|NamesEveryoneHeldBack|EmergenciesAreNotForgotten' \
		./backend/internal/enginetest/crash ./backend/internal/enginetest/interleave ./backend/internal/enginetest/outage \
		./backend/internal/enginetest/histories ./backend/internal/enginetest/fleet ./backend/internal/evidencelog >"$out/others" 2>&1 || failed=others
	wait "$largest" || failed="$failed largest"
	for part in $failed; do
		grep -v -e '^=== ' -e '--- PASS' "$out/$part" | head -2000
	done
	[ -z "$failed" ] || return 1
	cat "$out/largest" "$out/others" | grep -e '[0-9].*no violation' -e 'interleavings' | sed 's/^ *[a-z_]*\.go:[0-9]*: */  /'
}

# The acceptance tests wait more than they compute. So OpenTofu is built, and what needs it
# is tested, beside them, with what they leave of the processor, and then the External Secrets
# Operator's provider, and then the oldest Vault is built.
acceptance() {
	nice -n 19 sh -c 'scripts/opentofu.sh || true
		exec "$0" test -C terraform -tags acceptance -count=1 -timeout 30m ./...' "$GO" >"$out/terraform" 2>&1 &
	terraform=$!
	failed=
	$GO test -tags acceptance -count=1 -timeout 30m ./test/acceptance/... &
	acceptance=$!
	wait "$terraform" || failed=terraform
	if [ -z "$slow" ]; then
		nice -n 19 "$GO" test -C test/externalsecrets -tags acceptance -count=1 -timeout 30m ./... >"$out/externalsecrets" 2>&1 || failed="$failed externalsecrets"
	fi
	if [ -n "$oldest" ]; then
		DEV_VAULT_VERSION=$oldest nice -n 19 scripts/build-vault.sh || failed="$failed vault-$oldest"
	fi
	wait "$acceptance" || failed="$failed acceptance"
	cat "$out/terraform"
	[ -n "$slow" ] || cat "$out/externalsecrets"
	[ -z "$failed" ]
}

began=$(date +%s)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

if [ -n "$race" ]; then
	step 'every crash point, the damage matrix, and fleets' crash_points
fi
# Without it the tests that need it say so, and fail under CI=true.
scripts/postgres.sh || true
scripts/kv_clients.sh || true
scripts/chromium.sh || true
scripts/prometheus.sh || true
scripts/localkms.sh || true
step 'unit tests' $GO test $race -timeout 30m ./...
if [ -n "$race" ]; then
	step 'dek-kms-pkcs11' pkcs11
fi
# The oldest Vault takes some six minutes of two cores to build, once, and one to test, and
# the External Secrets Operator's provider three minutes of one to compile. A machine that has
# taken this long has no time for them in an hour.
oldest=1.21.1
slow=
if [ $(($(date +%s) - began)) -gt 1200 ]; then
	echo "test: this machine is slow, so Vault $oldest and the External Secrets Operator are left out: make short DEV_VAULT_VERSION=$oldest, make clients"
	slow=yes
fi
if [ -n "$slow" ] || [ -n "${VAULT_BIN:-}" ]; then # the latter is somebody else's server
	oldest=
fi
step 'acceptance tests on a real Vault, and the provider for OpenTofu and Terraform' acceptance
if [ -n "$oldest" ]; then
	step "a short form of the acceptance tests on Vault $oldest" env DEV_VAULT_VERSION="$oldest" scripts/short.sh
fi
