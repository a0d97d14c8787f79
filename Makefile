# The commands of the house. `make demo` and `make test` are all a newcomer needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SCENARIO ?= migrate
CARGO ?= cargo

.PHONY: help scenario demo demo-cluster test check fmt lint purity generated deny bench scale soak setup clients

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Find or install what the demo needs: a Redis server with TLS
	@scripts/setup

clients: ## The same, and what the tests need besides: Python for the vendors' own clients, redis-cli, curl
	@scripts/setup tests

# A wrong word should not show after a build of minutes.
scenario:
	@case "$(SCENARIO)" in migrate|rollback|platform-rollback) ;; \
	  *) echo 'SCENARIO is migrate, rollback or platform-rollback, not $(SCENARIO)' >&2; exit 2 ;; esac

demo: scenario setup ## Move a busy service from ElastiCache to Upstash on the local sandbox (SCENARIO=migrate|rollback|platform-rollback)
	@$(CARGO) build --workspace --bins
	@"$$($(CARGO) metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/debug/demo" run --scenario $(SCENARIO)

demo-cluster: scenario setup ## The same move by the operator on a real API server (KUBECONFIG_ADMIN=… to use a cluster of yours)
	@$(CARGO) build --workspace --bins
	@"$$($(CARGO) metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/debug/demo" run \
	  --cluster --dir target/demo-cluster --scenario $(SCENARIO) $(if $(KUBECONFIG_ADMIN),--kubeconfig $(KUBECONFIG_ADMIN))

test: clients ## Every test but the soak
	@CARGO="$(CARGO)" scripts/test

check: fmt lint purity generated deny ## Format, lints, purity of the core, generated files, dependencies

fmt:
	@$(CARGO) fmt --all --check

lint:
	@$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

purity: ## The core compiles without a runtime, an SDK or a TLS stack
	@$(CARGO) check --quiet -p sessionbackend --lib --no-default-features
	@! $(CARGO) tree -p sessionbackend --no-default-features -e normal --prefix none | grep -E '^(tokio|hyper|rustls|kube-client|aws-)' \
	  || { echo 'purity: the core must not depend on the crates above' >&2; exit 1; }

generated: ## crds/ and docs/conditions.md are what the code generates
	@$(CARGO) build --quiet --workspace --bins
	@program="$$($(CARGO) metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/debug/sessionbackend"; \
	  for made in crd:crds/sessionbackends.yaml conditions:docs/conditions.md; do \
	    "$$program" "$${made%%:*}" | diff -u "$${made#*:}" - \
	      || { echo "generated: run \`cargo run -- $${made%%:*} > $${made#*:}\`" >&2; exit 1; }; \
	  done

deny: ## Licences, duplicate crates, sources; advisories where the database can be reached
	@scripts/deny

bench: setup ## The core's speed; size, start and memory of the operator as it is released; a move against its critical path
	@$(CARGO) bench --quiet -p sessionbackend --no-default-features
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) build --quiet --release --locked -p sessionbackend --bin sessionbackend
	@scripts/operator
	@scripts/pace

scale: setup clients ## 1,000 objects on one replica: memory, and cloud calls an hour (a quarter of an hour; SCALE=1000)
	@$(CARGO) build --quiet --workspace --bins
	@$(CARGO) build --quiet --release --locked -p sessionbackend --bin sessionbackend
	@scripts/scale

soak: setup ## 10 x migrate, 5 x each rollback, as many stories as 50 kills -9 take, 5 x each by the operator, which is then killed at every call; resumable (KILLS=50 SOAK_DIR=target/soak)
	@$(CARGO) build --quiet --workspace --bins
	@scripts/soak
