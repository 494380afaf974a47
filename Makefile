# make start   set up (once), run the stack under honcho, take the tour
# make test    lint, then every test but the soaks
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
PACKAGES := ndisbus target imdriver hoststack
SOURCES  := $(PACKAGES) $(wildcard tools tests examples)

# What runs without sockets, threads and clocks: its behaviour is proved by unit tests and simulations alone.
CORES := ndisbus/core/*,ndisbus/driver/*,ndisbus/tcp/*,ndisbus/net/*,ndisbus/messages/*,ndisbus/lists/*,ndisbus/state/*,ndisbus/ddi/*,hoststack/chimney/*,hoststack/net/*,hoststack/model/*,target/driver.py,target/operations/*,target/data/*,target/network/*,target/hardware/*,target/model/*,imdriver/*
# Percent of lines and branches. 97.7 were measured; a point less is the limit.
CORES_COVERED := 96.7

.DEFAULT_GOAL := help
.PHONY: help start test lint format bench torture crowd scale streams ownership fuzz soak interop interop-long coverage docs changelog changelog-draft clean

help:
	@echo "make start     run the stack and take the tour (sets itself up the first time)"
	@echo "make test      lint, then the tests"
	@echo "make lint      ruff, mypy --strict (also of tests and examples), import-linter, changelog"
	@echo "make format    let ruff format the sources"
	@echo "make bench     our chain beside a bare one, with ratios"
	@echo "make crowd     20,000 connections that all send at once, in the host and offloaded"
	@echo "make scale     100 hosts on one intermediate driver; a tree of 1,000,000 blocks down and up"
	@echo "make torture   kills and stalls of every layer, in numbers"
	@echo "make streams   10,000 runs of two TCP machines on bad networks"
	@echo "make ownership 20,000 seeds of moving connections: who owns each byte (SEEDS=...)"
	@echo "make fuzz      a million mutated segments into TCP connections in every state"
	@echo "make soak      the long tests"
	@echo "make interop   against Linux's own TCP, as root (interop-long: gigabytes)"
	@echo "make coverage  how much of the sans-I/O cores the unit and simulation tests run through"
	@echo "make docs      pages and the reference of the API as a site in build/site"
	@echo "make changelog move changelog.d to CHANGELOG.md for a release (changelog-draft prints it)"
	@echo "make clean     remove what make and the tests made"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "make: no '$(PYTHON)' here; name one with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not ((3, 11) <= v < (3, 14)) and "make: Python 3.11, 3.12 or 3.13 is needed; %s is %d.%d. Name another with PYTHON=..." % (sys.executable, v[0], v[1]))'
	@echo "setup: creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: no virtual environment could be made; is the venv module installed (on Debian: python3-venv)?" >&2; exit 1; }

# The stamps make the second run instant; they age when the dependencies change.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "setup: installing tcp-chimney and what it needs (the first time takes a minute)"
	@$(PIP) install --editable .
	@touch $@
	@echo "setup: done"

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	@echo "setup: installing the tools for development"
	@$(PIP) install --editable '.[dev]'
	@touch $@
	@echo "setup: done"

# honcho stops all when the tour ends, and fails if the tour did (make prints the code, and ends with 2).
start: $(VENV)/.installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" honcho start

lint: $(VENV)/.installed-dev
	@echo "lint: ruff";          $(BIN)/ruff check --quiet .
	@echo "lint: ruff format";   $(BIN)/ruff format --quiet --check .
	@echo "lint: mypy";          $(BIN)/mypy --strict $(SOURCES)
	@echo "lint: user's mypy";   cd tests/typing && ../../$(BIN)/mypy --strict --config-file= --cache-dir=../../.mypy_cache/typing *.py
	@echo "lint: imports";       $(BIN)/lint-imports
	@echo "lint: generated";     $(BIN)/python tools/generate_calls.py --check && $(BIN)/python tools/rule_index.py --check && $(BIN)/python tools/doc_tables.py --check
	@echo "lint: changelog";     said=$$($(BIN)/towncrier build --draft --version next 2>&1) || { echo "$$said" >&2; exit 1; }

test: lint
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format .

bench: $(VENV)/.installed
	@$(BIN)/ndisbus bench

torture: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/torture.py all

crowd: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/torture_crowd.py

scale: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tools.many_hosts
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tools.big_tree

streams: $(VENV)/.installed-dev
	@$(BIN)/python tools/tcp_streams.py --runs 10000 --seed 1

SEEDS := 20000
ownership: $(VENV)/.installed-dev
	@$(BIN)/python tools/ownership.py --seeds $(SEEDS)

fuzz: $(VENV)/.installed-dev
	@$(BIN)/python tools/tcp_fuzz.py --segments 1000000 --seed 1

soak: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m soak --hypothesis-profile=random --timeout=3600 -o faulthandler_timeout=0

# What is missing (root, a tool) is a skipped test with its reason, not a failure.
interop: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m "interop and not long" tests/interop

interop-long: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m "interop and long" --timeout=3600 -o faulthandler_timeout=0 tests/interop

coverage: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -q --cov --cov-report= tests/unit tests/sim
	@$(BIN)/coverage report --precision=1 --include='$(CORES)' --fail-under=$(CORES_COVERED)

docs: $(VENV)/.installed-dev
	@$(BIN)/python tools/build_docs.py

changelog: $(VENV)/.installed-dev
	@$(BIN)/towncrier build --yes --version "$$($(BIN)/python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')"

changelog-draft: $(VENV)/.installed-dev
	@$(BIN)/towncrier build --draft --version next

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
