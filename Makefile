# Needs git, Python >= 3.11 with venv, a C compiler, make and Cargo; everything else is fetched into .venv.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
# Where uv is not on PATH, it is fetched into .venv at the version that constraints.txt names.
UV = $$(command -v uv || echo $(BIN)/uv)
# git, Cargo and pip trust the system's certificates; where those differ from uv's own, uv has to as well.
export UV_SYSTEM_CERTS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
VENV_READY := .venv/.made
READY := .venv/.ready
ROOMS := orchestrator agents harness
NATIVE := $(shell find native -name target -prune -o \( -name '*.rs' -o -name '*.toml' \) -print)

.PHONY: help setup demo test check prove constraints clean format wheel

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1 \2/' | while read -r name text; do \
	  printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: $(READY) ## Make .venv with nightfleet and every tool in it (fast when nothing changed)

$(VENV_READY):
	@python= ; \
	for name in python3.13 python3.12 python3.11 python3; do \
	  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "nightfleet needs Python >= 3.11; python3 here is '$$(python3 --version 2>&1)'. Install a newer one and type 'make setup' again." >&2; exit 2; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  echo "$$python has no venv (Debian and Ubuntu package it apart). Type 'sudo apt-get install python3-venv', then 'make setup' again." >&2; exit 2; \
	fi; \
	for tool in git cargo cc; do \
	  command -v $$tool >/dev/null || { echo "nightfleet needs '$$tool' on PATH (git, a C compiler and a Rust toolchain). Install it and type 'make setup' again." >&2; exit 2; }; \
	done; \
	echo "making .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear .venv
	@touch $@

# Installing again after a change to the Rust code rebuilds only what changed: Cargo keeps target/.
$(READY): $(VENV_READY) pyproject.toml constraints.txt Cargo.toml Cargo.lock $(NATIVE)
	@command -v uv >/dev/null || [ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	@echo 'installing nightfleet and its tools into .venv (the native library takes a minute the first time)'
	@$(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt \
	  --reinstall-package nightfleet-native --editable native --editable . --group dev
	@touch $@

demo: setup ## See the whole machine at work on a small program
	@$(BIN)/nightfleet demo

test: setup ## Run the tests (quick; under ten minutes)
	@$(BIN)/python -m pytest -W error tests

check: setup ## Lint, types, stubs, formatting, import direction, docs parity
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest nightfleet.native._native --mypy-config-file pyproject.toml
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo clippy --workspace --all-targets --features nightfleet-native/python -- -D warnings
	$(BIN)/python -m pytest -q -W error tests/test_house.py tests/test_docs.py

prove: setup ## Run every benchmark and write benchmarks/RESULTS.md
	@$(BIN)/python benchmarks/prove.py

format: setup ## Format Python and Rust
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	cargo fmt --all

wheel: setup ## Build wheel and sdist of both distributions into dist/
	rm -rf dist
	PATH="$(CURDIR)/$(BIN):$$PATH" CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-$(CURDIR)/target}" \
	  $(BIN)/python -m build --no-isolation --outdir dist native
	$(BIN)/python -m build --no-isolation --outdir dist .

# Names and versions only: no markers, no hashes, no addresses. One list for run time, tools, the `llm` extra and both build
# backends (they stand in the dev group). Everything moves to its newest release that Python 3.11 can run.
constraints: $(VENV_READY) ## Resolve constraints.txt anew
	@command -v uv >/dev/null || [ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet uv
	@$(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --extra llm --group dev \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-package nightfleet-native \
	  pyproject.toml native/pyproject.toml | sed -E 's/[[:space:]]*;.*//' | grep -E '^[A-Za-z0-9._-]+==' | LC_ALL=C sort -u > .venv/constraints.txt
	@[ -s .venv/constraints.txt ] || { echo 'uv resolved nothing: see above; constraints.txt stays as it was' >&2; exit 2; }
	@if cut -d= -f1 .venv/constraints.txt | uniq -d | grep .; then echo 'two versions of one package: narrow the requirement' >&2; exit 2; fi
	@mv .venv/constraints.txt constraints.txt

clean: ## Remove everything that make made (.venv, target, dist, caches)
	rm -rf .venv target native/target dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find $(ROOMS) native tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	rm -f native/python/nightfleet/native/*.so
