# Two commands do everything: `make run` and `make test`. Both set up .venv first, and only when something changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIPELINE ?= dcan
ENV ?= digits
PARAMS ?=

# Nothing here may ask questions or report usage.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: run test lint types viz viz-build ui clean help
.DEFAULT_GOAL := help

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/python.ok:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: '$(PYTHON)' was not found. Install Python 3.11 to 3.13, or name one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}; name another one: make run PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "The modules venv and ensurepip of $(PYTHON) are missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.ok: $(VENV)/python.ok pyproject.toml
	@echo "Installing the project into $(VENV); torch is large, this takes some minutes the first time."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/viz.ok: $(VENV)/run.ok
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[viz]'
	@touch $@

$(VENV)/test.ok: $(VENV)/run.ok
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(VENV)/run.ok ## Set up, then cluster the embedded digits; PIPELINE=, ENV= and PARAMS= choose another run
	@$(BIN)/kedro run --pipelines=$(PIPELINE) --env=$(ENV) $(if $(PARAMS),--params=$(PARAMS))

test: $(VENV)/test.ok lint types ## Set up, then lint, types and tests
	@$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/test.ok ## Style of the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/test.ok ## Types of the code
	@$(BIN)/mypy

viz: $(VENV)/viz.ok ## Open the pipelines in the browser
	@$(BIN)/kedro viz run --env=$(ENV)

viz-build: $(VENV)/viz.ok ## Write the pipelines as a static site to build/
	@$(BIN)/kedro viz build

ui: $(VENV)/run.ok ## Open the tracked runs in the browser
	@$(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}

clean: ## Remove the environment and caches; data and tracked runs stay
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
