# make demo: every table at demo scale.  make test: all checks and tests.  Both install what they need into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: setup demo test test-fast check clean

setup: $(VENV)/.setup

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "morphobench needs Python 3.11 or newer, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.setup: $(VENV)/bin/python pyproject.toml envs/constraints.txt
	$(PIP) install --quiet --constraint envs/constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.setup
	$(PIP) install --quiet --constraint envs/constraints.txt --editable '.[test]'
	@touch $@

demo: setup
	$(BIN)/snakemake

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

test: check
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.test
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

clean:
	@printf 'Remove results/, data/ and .snakemake/? Downloads go too. [y/N] '; read answer; \
	[ "$$answer" = y ] && rm -rf results data .snakemake || echo 'Nothing removed.'
