# `make study` runs the whole comparison on PBMC3k. `make test` checks everything: lint, types, all tests. `make test-fast` runs the tests
# that are not marked slow. `make bench` times training beside scvi-tools, which gets an environment of its own. `make bench-gpu` tests and
# times a GPU. `make test-pythons` tests the built package with several Pythons. `make docs` builds the documentation site into
# docs/_build/html. `make check-docs` opens each of its pages in Chromium. `make tutorials` executes the notebooks of docs/tutorials into
# docs/_build/tutorials.
# Needs python3 (3.11 to 3.13) and make. All packages go into .venv, pinned by constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
STUDY ?= study
PYTHONS ?= python3.11 python3.12 python3.13
LOWEST ?=
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile

.PHONY: study test test-fast docs check-docs tutorials bench bench-gpu test-pythons clean

study: .venv/installed
	$(BIN)/sparcell study --out $(STUDY) --resume

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	$(BIN)/pytest $(WORKERS)

test-fast: .venv/installed-dev
	$(BIN)/pytest $(WORKERS) -m "not slow"

docs: .venv/installed-docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html

check-docs: docs
	$(BIN)/python docs/check_site.py

tutorials: .venv/installed-docs
	$(BIN)/python docs/execute_tutorials.py

bench: .venv/installed .venv-peer/installed
	$(BIN)/python benchmarks/speed.py --scvi-python .venv-peer/bin/python --out benchmarks/speed-here.md

bench-gpu: .venv/installed-dev
	PYTHON=$(BIN)/python sh benchmarks/gpu/run.sh benchmarks/gpu-here

.venv-peer/installed: Makefile
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --quiet torch==2.13.0 scvi-tools==1.4.2 'pandas<3'
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Builds the package and tests it in a fresh environment of each Python; takes up to an hour and 8 GB.
test-pythons:
	$(PYTHON) packaging/test_pythons.py $(PYTHONS) $(if $(LOWEST),--lowest)

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-peer .pythons docs/_build docs/api/generated
