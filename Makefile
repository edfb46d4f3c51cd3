# The words of the house; CI runs the same ones. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH ?=
TESTS ?= tests
ARCHIVES ?=
JOBS ?= auto
SERVERS ?= 2

# Says which tests took longest. A half in which there are no tests (TESTS=tests/core) is no failure.
pytest = $(BIN)/python -m pytest --durations=15 --durations-min=5 $(1) || { code=$$?; [ $$code -eq 5 ] || exit $$code; }

.PHONY: help venv demo test lint format crds images bench e2e clean
.DEFAULT_GOAL := help

help: ## what each word does
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

venv: $(VENV)/.ready ## .venv with podium and everything to work on it

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "podium needs Python 3.11 or newer, this is $$($(PYTHON) -V 2>&1): install it, or name it: make PYTHON=python3.12 …" >&2; exit 2; }
	@echo "==> making $(VENV) (a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: venv ## the examples on a real API server and a real Conductor, from nothing
	@$(BIN)/podium demo

test: venv ## all tests: first those without servers, then those on the real ones; JOBS=… SERVERS=…
	@$(BIN)/python -m podium.local prepare --node=auto
	@$(call pytest,$(TESTS) -m 'not bench and not slow' -n $(JOBS) --dist worksteal)
	@$(call pytest,$(TESTS) -m 'slow and not bench' -n $(SERVERS) --dist loadfile --no-loadscope-reorder)

lint: venv ## formatting, lint, strict types, import rules, module sizes, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy operator/podium workers/podium_workers tests/support
	@PYTHONPATH=operator:workers $(BIN)/lint-imports --no-cache
	@$(BIN)/python tests/support/house.py
	@$(BIN)/python -m podium.crdgen --check crds --docs docs/reference

format: venv ## mend what can be mended mechanically
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

crds: venv ## crds/ and docs/reference from the types in operator/podium/api
	@$(BIN)/python -m podium.crdgen crds --docs docs/reference

images: venv ## the images of the operator and the worker: docker, podman or buildah; BASE_IMAGE=… ARCHIVES=1
	@$(BIN)/python -m podium.local images $(if $(ARCHIVES),--archives)

bench: venv ## all measurements, or one: make bench BENCH=runs
	@$(BIN)/python -m podium.local prepare --node=auto
	@$(BIN)/python -m pytest tests/bench -m bench -s $(if $(BENCH),-k $(BENCH))

e2e: venv ## long proofs: thousands of crashes, many kills
	@$(BIN)/python -m podium.local prepare --node=auto
	@PODIUM_LONG=1 $(BIN)/python -m pytest tests/contract tests/e2e tests/integration -m 'not bench'

clean: ## remove what make made here (the cache outside the checkout stays)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist
