# Needs Python 3.11+ (with venv) and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: simulate replay kill setup demo test lint format types contracts check bench clean

setup: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "halfrate needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/halfrate demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup
	$(BIN)/basedpyright --level error

contracts: setup
	$(BIN)/lint-imports

check: lint types contracts test

# Whole jobs in virtual time, with faults drawn from seeds; and one of them step for step.
SEEDS ?= 1000
FIRST ?= 0
simulate: setup
	$(BIN)/python -m tests.simulation --first $(FIRST) --seeds $(SEEDS)

replay: setup
	$(BIN)/python -m tests.simulation --replay $(SEED)

# Real processes, killed at random instants, on SQLite and on PostgreSQL; SEED=7 plays the same plans again.
ROUNDS ?= 70
PROCESSES ?= 1
kill: setup
	$(BIN)/python -m tests.kill --rounds $(ROUNDS) --processes $(PROCESSES) $(if $(SEED),--seed $(SEED))

bench: setup
	$(BIN)/python -m bench

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis dist build
