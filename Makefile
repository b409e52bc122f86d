# vault-plugin-dek. `make` alone lists what there is.

.POSIX:
.SUFFIXES:

GO ?= go
FUZZTIME ?= 10s
CHAOS_ROUNDS ?= 20
HISTORY_ROUNDS ?= 1000
HISTORY_SEED ?= 1
EVIDENCE_CHANGES ?= 10000
EVIDENCE_SEED ?= 1
VERSION = github.com/vault-plugin-dek/vault-plugin-dek/internal/version

export GO VAULT_BIN DEV_VAULT_VERSION DEV_STORAGE DEV_PORT DEV_PROXY_PORT DEV_FLEET FUZZTIME

help: ## list what there is (the default)
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

build: ## build bin/vault-plugin-dek, bin/dek-proxy and bin/dek
	@mkdir -p bin
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-X $(VERSION).commit=$$(scripts/commit.sh)" -o bin/ ./cmd/...

terraform: ## build bin/terraform-provider-dek, the provider for OpenTofu and Terraform
	@mkdir -p bin
	@cd terraform && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-X $(VERSION).commit=$$(../scripts/commit.sh)" -o ../bin/ ./cmd/...

pkcs11: ## build bin/dek-kms-pkcs11, which needs cgo: a Kubernetes KMS v2 plugin for keys of PKCS#11 tokens
	@mkdir -p bin
	@cd cmd/dek-kms-pkcs11 && CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=false -ldflags "-X $(VERSION).commit=$$(../../scripts/commit.sh)" -o ../../bin/ .

vault: ## leave a Vault server at bin/vault: VAULT_BIN, the PATH, or built from source
	@scripts/build-vault.sh

stack: build vault
	@$(GO) build -buildvcs=false -o bin/devstack ./internal/devstack/cmd/devstack

dev: stack ## run Vault, plugin and proxy until Ctrl-C (DEV_STORAGE=raft keeps the data; DEV_FLEET=0; DEV_PORT, DEV_PROXY_PORT)
	@exec bin/devstack -stop-with-parent dev

demo: stack ## show rotations from beginning to end, one with the plugin killed, and check that nothing is lost
	@exec bin/devstack -stop-with-parent demo

test: build vault ## run the unit tests, with the race detector, and the acceptance tests on a real Vault
	@scripts/test.sh

short: build vault ## run a short form of the acceptance tests (DEV_VAULT_VERSION=1.21.1: on the oldest Vault that is tested)
	@scripts/short.sh

clients: build vault ## run the External Secrets Operator's Vault provider against the engine (compiles some minutes, once)
	@scripts/clients.sh

bench: build vault ## run the benchmarks (15 minutes at most): lines of name, value, unit (BENCH='-run regexp')
	@$(GO) build -buildvcs=false -o bin/bench ./internal/bench
	@scripts/postgres.sh >&2 || true
	@scripts/chromium.sh >&2 || true
	@exec bin/bench $(BENCH)

lint: ## run golangci-lint, pinned in scripts/lint
	@scripts/lint.sh run

fmt: ## format the Go code
	@scripts/lint.sh fmt

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh

chaos: build vault pkcs11 ## kill and restart everything during rotations, key providers in trouble too, CHAOS_ROUNDS (20) times each (CHAOS_SEED, CHAOS_DIR)
	@CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(GO) test -tags acceptance -count=1 -timeout 3h -run '^TestChaos$$' -v ./test/acceptance/...

histories: ## run HISTORY_ROUNDS (1000) rounds of concurrent clients over failing storage, from HISTORY_SEED (1) on
	@HISTORY_ROUNDS=$(HISTORY_ROUNDS) HISTORY_SEED=$(HISTORY_SEED) $(GO) test -count=1 -timeout 24h -run '^TestConcurrentClients$$' -v ./backend/internal/enginetest/histories

evidence: ## EVIDENCE_CHANGES (10000) rotations, imports and shreddings under faults and crashes, then verify the log (EVIDENCE_SEED)
	@EVIDENCE_CHANGES=$(EVIDENCE_CHANGES) EVIDENCE_SEED=$(EVIDENCE_SEED) $(GO) test -count=1 -timeout 24h -run '^TestEvidenceOfRandomFaults$$' -v ./backend/internal/enginetest/outage

vulncheck: ## look for known vulnerabilities in what is used (needs the network)
	@scripts/vulncheck.sh

release: ## build a release into dist/: archives, packages, SBOMs, sums (SIGNING_KEY, RELEASE_PLATFORMS)
	@scripts/release.sh

reproduce: ## build the release of this commit twice and compare every byte (DIST compares with another's)
	@scripts/reproduce.sh

clean: ## remove what was built and .dev/, but not the Vault server and the linter
	rm -rf bin/vault-plugin-dek bin/dek-proxy bin/dek bin/terraform-provider-dek bin/dek-kms-pkcs11 bin/devstack bin/bench dist .dev

.PHONY: help build terraform pkcs11 vault stack dev demo test short clients bench lint fmt fuzz chaos histories evidence vulncheck release reproduce clean
