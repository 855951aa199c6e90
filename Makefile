# infc. Every target works as the very first command on a fresh machine: `make demo`, `make test`, ...
# A second run re-does nothing that is up to date. `make help` lists the targets.
#
# Variables: PYTHON (3.11 or later), UV_ARGS (more arguments for `uv pip install`, an index with CPU-only torch, say),
# CARGO_TARGET_DIR (default ~/.cache/infc/cargo), PYTEST_ARGS, JOBS (test processes, default 2).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

ifndef PYTHON
PYTHON := $(firstword $(foreach p,python3.11 python3 python3.12 python3.13,\
  $(if $(shell $(p) -c 'import sys; print(1 if sys.version_info >= (3, 11) else "")' 2>/dev/null),$(p))))
endif
JOBS ?= 2
PYTEST_ARGS ?=
UV_ARGS ?=
export CARGO_TARGET_DIR ?= $(HOME)/.cache/infc/cargo
CARGO_HOME ?= $(HOME)/.cargo
ARCH := $(shell uname -m)
BIN := .venv/bin
SERVER := build/serve/$(ARCH)/serve
SERVER_SOURCES := $(shell find runtime/server \( -name target -o -name __pycache__ \) -prune -o -type f -print 2>/dev/null)
PROJECT := pyproject.toml setup.py constraints.txt

# ── everyday ──────────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-zA-Z0-9_/%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(BIN)/.dev $(SERVER) ## build examples/minilm, serve it, ask it for two embeddings, print targets against measurements
	@$(BIN)/python examples/demo.py

.PHONY: test
test: check servers ## make check, then the tests of every room (minutes)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)
	$(MAKE) --no-print-directory test-rust

.PHONY: test-all
test-all: check servers ## the tests, the heavy ones too (long)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "full or not full" $(PYTEST_ARGS)
	$(MAKE) --no-print-directory test-rust
	INFC__FUZZ=1000000 cargo test --locked --quiet --release --manifest-path runtime/server/Cargo.toml fuzz
	INFC__FUZZ=1000000 cargo test --locked --quiet --manifest-path runtime/server/Cargo.toml fuzz

.PHONY: test-rust
test-rust: tools-cargo # cargo test of the server
	cargo test --locked --quiet --manifest-path runtime/server/Cargo.toml

.PHONY: check
check: $(BIN)/.dev tools-cargo ## lint, formatting and types of everything: ruff, pyright strict, cargo fmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	cargo fmt --manifest-path runtime/server/Cargo.toml --check
	cargo clippy --locked --quiet --manifest-path runtime/server/Cargo.toml --all-targets -- -D warnings

.PHONY: format
format: $(BIN)/.dev tools-cargo ## write the formatting that make check asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cargo fmt --manifest-path runtime/server/Cargo.toml

.PHONY: bench
bench: $(BIN)/.bench $(SERVER) ## infc beside its peers on this machine; writes docs/benchmarks.md
	$(BIN)/python -m bench

.PHONY: serve
serve: $(SERVER) ## build the server for this machine

.PHONY: wheel
wheel: $(BIN)/.dev build/serve/x86_64/serve build/serve/aarch64/serve ## dist/: the pure wheel infc, and infc-serve with both servers
	rm -rf dist build/lib build/bdist.*
	$(BIN)/uv build --quiet --out-dir dist .
	rm -rf packaging/infc-serve/build packaging/infc-serve/*.egg-info
	INFC__SERVE_DIR=$(CURDIR)/build/serve $(BIN)/uv build --quiet --wheel --out-dir dist packaging/infc-serve
	rm -rf packaging/infc-serve/build packaging/infc-serve/*.egg-info
	@ls -l dist

.PHONY: constraints
constraints: $(BIN)/.uv ## pin the newest versions that pyproject.toml allows (then: make test)
	@echo "# Exact versions that infc is tested with; ranges are in pyproject.toml. Made by \`make constraints\`; do not edit." > constraints.new
	$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --all-extras --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --no-annotate --no-header --no-emit-index-url | grep -v '^infc' >> constraints.new
	mv constraints.new constraints.txt

.PHONY: deps-debian
deps-debian: ## Debian and Ubuntu, as root: what the tests of aarch64 need
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends qemu-user libc6-arm64-cross gcc libc6-dev python3-venv

.PHONY: deps-browser
deps-browser: ## Debian, as root: what the tests of the report look at it with
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium

.PHONY: clean
clean: ## remove what was built here (not .venv, not the cache in your home)
	rm -rf build dist *.egg-info packaging/*/build packaging/*/*.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf
	rm -rf examples/*/*.bundle examples/*/*.failed examples/*/*.infer.lock examples/*/models examples/*/data

# ── the environment ───────────────────────────────────────────────────────────────────────────────────────────────

$(BIN)/.uv: | tools-python
	@echo "make: creating .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv || { echo "make: '$(PYTHON) -m venv' failed. Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(BIN)/.dev: $(BIN)/.uv $(PROJECT)
	@echo "make: installing infc and its build and test dependencies (some 8 GB, torch's CUDA libraries most of it)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --config-setting editable_mode=compat -c constraints.txt $(UV_ARGS) -e '.[dev]'
	@touch $@

$(BIN)/.bench: $(BIN)/.dev
	@echo "make: installing the peers"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --config-setting editable_mode=compat -c constraints.txt $(UV_ARGS) -e '.[dev,bench]'
	@touch $@

.PHONY: tools-python
tools-python:
	@[ -n "$(PYTHON)" ] || { echo "make: Python 3.11 or later is needed and none was found. Debian and Ubuntu: apt-get install python3 python3-venv; or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }

.PHONY: tools-cargo
tools-cargo:
	@command -v cargo >/dev/null || { echo "make: cargo is needed for the server and was not found: install Rust 1.88 or later (rustup, see rust-lang.org/tools/install) and put ~/.cargo/bin on PATH" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "make: Rust needs a linker called cc, and there is none. Debian and Ubuntu: apt-get install gcc libc6-dev" >&2; exit 1; }

# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────
# zig links it against glibc 2.28, whatever this machine has. Paths of this machine stay out of the binary.

build/serve/%/serve: $(SERVER_SOURCES) | $(BIN)/.dev tools-cargo
	@if [ "$*" != "$(ARCH)" ] && command -v rustup >/dev/null; then rustup target add --toolchain "$$(rustup show active-toolchain | cut -d' ' -f1)" $*-unknown-linux-gnu; fi
	@echo "make: building the server for $* (minutes the first time)"
	@PATH="$(CURDIR)/$(BIN):$$PATH" RUSTFLAGS="--remap-path-prefix=$(CARGO_HOME)=/cargo --remap-path-prefix=$(CURDIR)=/infc" \
	  cargo zigbuild --locked --release --manifest-path runtime/server/Cargo.toml --bin serve --target $*-unknown-linux-gnu.2.28
	@mkdir -p $(@D)
	@install -m 755 "$(CARGO_TARGET_DIR)/$*-unknown-linux-gnu/release/serve" $@.new && mv $@.new $@

# The server of the other architecture is for tests under qemu and for cross-built bundles: skipped, loudly, where its
# Rust target cannot be added.
OTHER := $(if $(filter x86_64,$(ARCH)),aarch64,x86_64)
.PHONY: servers
servers: $(SERVER)
	@$(MAKE) --no-print-directory build/serve/$(OTHER)/serve \
	  || echo "make: SKIPPED the $(OTHER) server: it could not be built (rustup target add $(OTHER)-unknown-linux-gnu); tests that need it will say so" >&2
