# make demo: a spiking policy on its real environment. make test: everything that CI checks.
# Variables: PYTHON (3.11 or newer, for a new .venv), PIP_FLAGS (e.g. --extra-index-url), PYTEST_FLAGS, DEMO_FLAGS.

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_FLAGS ?=
DEMO_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt
# one stamp per set of extras: nothing is installed again until pyproject.toml or constraints.txt changes
FOR_DEMO := $(VENV)/.installed-for-demo
FOR_TEST := $(VENV)/.installed-for-test
FOR_DOCS := $(VENV)/.installed-for-docs

# small matrices: more threads only make them slower
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test docs nightly bench install clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     install what the demo needs into .venv, then run a shipped actor as ANN and as SNN"
	@echo "make test     install everything, then ruff (lint and format), pyright and the tests"
	@echo "make docs     install mkdocs, then build the documentation into site/"
	@echo "make nightly  the tests that make test leaves out, each in an environment of its own under .nightly/"
	@echo "make bench    install everything, then time decisions with pytest-benchmark (close other programs)"
	@echo "make install  install everything (extras: all, test) into .venv"
	@echo "make clean    remove .venv, caches and build products"

demo: $(FOR_DEMO)
	@$(BIN)/snn-policy demo $(DEMO_FLAGS)

test: $(FOR_TEST)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/pytest -n 2 $(PYTEST_FLAGS)

docs: $(FOR_DOCS)
	NO_MKDOCS_2_WARNING=1 PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mkdocs build --strict
	@echo "site/index.html is the first page; for the search: $(BIN)/python -m http.server --directory site"

# its parts by name, as in make nightly PARTS="node openpi"; all of them by default
nightly: $(FOR_TEST)
	PYTHON=$(abspath $(BIN))/python PIP_FLAGS='$(PIP_FLAGS)' .ci/nightly $(PARTS)

bench: $(FOR_TEST)
	$(BIN)/pytest -n 0 --benchmark-enable tests/benchmarks

install: $(FOR_TEST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "snn-policy needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# the order of the two does not matter: what is installed for the tests serves the demo too
$(FOR_DEMO): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the demo needs into $(VENV)"
	@$(INSTALL) -e '.[mujoco]'
	@touch $@

$(FOR_TEST): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing everything into $(VENV) (torch included: a few minutes)"
	@$(INSTALL) -e '.[all,test]'
	@touch $(FOR_DEMO) $@

$(FOR_DOCS): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the documentation needs into $(VENV)"
	@$(INSTALL) -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .nightly site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
