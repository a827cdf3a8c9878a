# `make demo` and `make test` set up all they need; the others are for people who work on rarefy.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test check bench docs clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

# torch first and alone: its CPU build is pinned in the lock, and nothing after it may replace it.
.venv/base: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	grep -E '^torch==' requirements.lock > .venv/torch.txt
	$(BIN)/pip install --quiet -r .venv/torch.txt
	$(BIN)/pip install --quiet --constraint requirements.lock --editable .
	touch $@

.venv/dev: .venv/base
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

.venv/all: .venv/base
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch .venv/dev $@

venv: .venv/all  ## .venv from the lock, with rarefy and every extra in it

demo: .venv/base  ## one paper per domain, and one page with what came out
	$(BIN)/rarefy tour

# A worker for each core and one thread in each: threads that wait for each other cost more.
test: .venv/dev  ## the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

check: .venv/dev  ## lint, formatting, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/all  ## rarefy beside its peers, as ratios; writes benchmarks/results.json
	$(BIN)/python benchmarks

docs: .venv/dev  ## the documentation as a site in site/
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict --quiet

clean:  ## remove what the commands above made
	rm -rf .venv site rarefy-reports
