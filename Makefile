# Everything here needs python3 and make, and the network for installing packages only.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BEAM_GO := github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0

# `make demo BASE_URL=https://api.openai.com/v1` runs against that server, with the key from OPENAI_API_KEY.
BASE_URL ?=
MODEL ?= text-embedding-3-small
ARGS ?=

.PHONY: help demo test lint bench bench-quota prism clean

help:
	@echo "make demo   embed a real corpus on this machine, and search it"
	@echo "make test   linter, types and all tests"
	@echo "make bench  the figures of the README, beside the peers' (ARGS=--quick for a short run)"
	@echo "make bench-quota  how workers share a quota, simulated (ARGS=--quick for a short run)"
	@echo "make prism  build Beam's portable runner, for the tests on it (needs Go)"

demo: $(VENV)/installed-emulator
	$(BIN)/python -m pipelines.demo --base-url "$(BASE_URL)" --model "$(MODEL)"

test: $(VENV)/installed-test lint
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

bench-quota: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.quota $(ARGS)

prism: $(BIN)/prism

$(BIN)/prism: | $(BIN)/python
	GOBIN="$(CURDIR)/$(BIN)" go install -p 2 $(BEAM_GO)

$(VENV)/installed-%: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .venv-foreign-* build dist demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
