# probewise: `make demo` and `make test` need only python3-venv and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ok
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-peers check format bench-loop study-cuzn schema clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "probewise needs Python 3.11, 3.12 or 3.13, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || echo missing). Say which to use: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Setting up $(VENV): about 370 MB to download, 1.7 GB on disk, once."
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## Run the demonstration experiment and write its report
	$(BIN)/probewise demo

test: $(STAMP) ## Run the test suite
	$(BIN)/python -m pytest

test-slow: $(STAMP) ## Kill 50 controllers at random moments: about 10 minutes
	$(BIN)/python -m pytest -m slow

PEERS := .venv-peers/made-from.txt .venv-peers-py4dstem/made-from.txt

test-peers: $(STAMP) $(PEERS) ## Open our files with HyperSpy, LiberTEM and py4DSTEM, in venvs of their own
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,formats]"
	$(BIN)/python -m pytest -m peers

$(PEERS) &: tests/peers/make_venv.py tests/peers/constraints.txt tests/peers/constraints-py4dstem.txt
	$(BIN)/python tests/peers/make_venv.py
	@touch $(PEERS)

check: $(STAMP) ## Lint, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

bench-loop: $(STAMP) ## Measure what the loop adds, and its duty cycle
	$(BIN)/python -P tests/benchmarks/bench_loop.py

study-cuzn: $(STAMP) ## Targets found against area exposed on real CuZn data, 10 seeds
	$(BIN)/python -m tests.benchmarks.study_cuzn

schema: $(STAMP) ## Write configs/schema.json anew
	$(BIN)/python -P -c "from pathlib import Path; from controller.schema import write_schema; write_schema(Path('configs/schema.json'))"

clean: ## Remove what make made
	rm -rf $(VENV) .venv-peers .venv-peers-py4dstem .mypy_cache .ruff_cache .pytest_cache .hypothesis
