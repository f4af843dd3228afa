.DEFAULT_GOAL := help
.PHONY: help build test demo fmt lint clippy doc clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

build: ## Build the daemon: target/release/multigres
	cargo build --release --locked

test: ## Formatting, lints, docs and all tests, on a private PostgreSQL (installed if missing)
	@scripts/postgresql >/dev/null
	@scripts/rust-component fmt rustfmt
	cargo fmt --all --check
	@$(MAKE) --no-print-directory lint doc
	PG_BINDIR="$$(scripts/postgresql)" cargo test --workspace --locked --doc
	PG_BINDIR="$$(scripts/postgresql)" cargo test --workspace --locked --lib --bins --tests

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

clean: ## Remove what was built
	cargo clean
