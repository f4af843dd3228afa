.DEFAULT_GOAL := help

MINUTES ?= 1
SIMULATOR := cargo run --quiet --profile sim --locked -p multigres-sim --features mutants --

.PHONY: help build test sim bench test-matrix demo fmt lint clippy doc doctest clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## Build the daemon: target/release/multigres
	@scripts/compiler
	cargo build --release --locked

# The simulation runs some seeds that are the commit's own; SEEDS=COMMIT: those of another commit.
test: ## Formatting, lints, docs, all tests on a private PostgreSQL (installed if missing), simulation
	@SEEDS='$(SEEDS)' scripts/test

sim: ## Simulate seeds that nobody has run yet, for a minute (MINUTES=30: longer)
	$(SIMULATOR) sweep --minutes $(MINUTES) --from "$$(date +%s)"

bench: ## Multigres beside its peers: docs/benchmarks.md (QUICK=1: in two minutes, printed)
	@QUICK='$(QUICK)' scripts/bench

test-matrix: ## The end-to-end and SQL tests on PostgreSQL 13 to 18, as far as they can be had
	@scripts/test-matrix

demo: ## Two tenants, four logins, side by side; stays up to try (ONCE=1: ends by itself)
	@ONCE='$(ONCE)' scripts/demo

fmt: ## Format the code
	@scripts/rust-component fmt rustfmt
	cargo fmt --all

lint: clippy ## Clippy, warnings denied

clippy:
	@scripts/rust-component clippy clippy
	cargo clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the documentation, warnings denied
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked

doctest:
	cargo test --workspace --locked --doc

clean: ## Remove what was built
	cargo clean
