# Two commands: `make study` runs the whole comparison on PBMC3k, `make test` checks everything.
# Needs python3 (3.11 to 3.13) and make; all else goes into .venv, pinned by constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
STUDY ?= study

.PHONY: study test lint clean

study: .venv/installed
	$(BIN)/sparcell study --out $(STUDY) --resume

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv
