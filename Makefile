# Two commands do everything: `make run` and `make test`. Both set up .venv first, and only when something changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIPELINE ?= dcan
ENV ?= digits
PARAMS ?=
# The packages come in the releases that requirements/ pins; `make run LOCK=` takes the newest that pyproject.toml allows.
LOCK ?= requirements
# uv installs, if there is one: minutes become seconds. `make run UV=` does without it.
UV ?= $(shell command -v uv 2>/dev/null)
# On a terminal installers show what they do, elsewhere only what goes wrong.
QUIET := $(shell [ -t 2 ] || echo --quiet)
PIP = $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check
INSTALL = $(if $(UV),$(UV) pip install $(QUIET) --python $(BIN)/python,$(PIP))

# Processes that `make test` and `make quick` share the tests among.
WORKERS ?= 2
# Files stay whole, so that a fixture of a file is made once.
SHARED = $(if $(filter-out 0 1,$(WORKERS)),-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

# Nothing here may ask questions or report usage.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: run test quick coverage lint types lock fuzz results picture commands tutorial wheel docs gallery audit viz viz-build ui clean help
.DEFAULT_GOAL := help

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/python.ok:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: '$(PYTHON)' was not found. Install Python 3.11 to 3.13, or name one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}; name another one: make run PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "The modules venv and ensurepip of $(PYTHON) are missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# $(call install,FILE,EXTRA): what the lock pins, each file compared with its hash, then the project. Where uv gets no file,
# such as from an index that only pip was told of, pip is asked; where a pinned file is not to be had, the ranges of
# pyproject.toml decide, which is said.
define install
@if [ -n "$(LOCK)" ] && { $(INSTALL) --require-hashes -r $(LOCK)/$(1).txt $(if $(UV),|| $(PIP) --require-hashes -r $(LOCK)/$(1).txt); }; then \
	$(PIP) --no-deps --editable .; \
else \
	if [ -n "$(LOCK)" ]; then echo "$(LOCK)/$(1).txt cannot be installed here, for the reason above; taking what pyproject.toml allows."; fi; \
	$(INSTALL) --editable '.$(2)'$(if $(UV), || $(PIP) --editable '.$(2)'); \
fi
@touch $@
endef

$(VENV)/run.ok: $(VENV)/python.ok pyproject.toml $(wildcard requirements/run.txt)
	@echo "Installing the project into $(VENV); torch is large, this takes some minutes the first time."
	$(call install,run,)

$(VENV)/test.ok: $(VENV)/run.ok $(wildcard requirements/test.txt)
	$(call install,test,[dev])

# What these add has no part in results.
$(VENV)/viz.ok $(VENV)/docs.ok $(VENV)/audit.ok: $(VENV)/%.ok: $(VENV)/run.ok
	@$(INSTALL) --editable '.[$*]'$(if $(UV), || $(PIP) --editable '.[$*]')
	@touch $@

run: $(VENV)/run.ok ## Set up, then cluster the embedded digits; PIPELINE=, ENV= and PARAMS= choose another run
	@$(BIN)/kedro run --pipelines=$(PIPELINE) --env=$(ENV) $(if $(PARAMS),--params=$(PARAMS))

# One thread for each worker: they share the cores.
test quick: export OMP_NUM_THREADS := 1
test: $(VENV)/test.ok lint ## Set up, then lint, types and tests; WORKERS= and PYTEST= change how
	@mkdir -p build
	@$(BIN)/mypy >build/types.txt 2>&1 & types=$$!; \
	$(BIN)/python -m pytest $(SHARED) $(PYTEST); tests=$$?; \
	wait $$types; types=$$?; cat build/types.txt; [ $$tests = 0 ] && [ $$types = 0 ]

quick: $(VENV)/test.ok lint ## Set up, then lint and a minute of tests: some of every room, those of tests/quick.txt
	@$(BIN)/python -m pytest $(SHARED) @tests/quick.txt $(PYTEST)

ROOMS = methods training scores inference
# Trainings on Ray count where .venv has the extra `ray`, else their tests are skipped.
coverage: export OMP_NUM_THREADS := 1
coverage: $(VENV)/test.ok ## Branches that the tests of methods, training, scores and inference take, by room
	@$(BIN)/python -m pytest $(SHARED) $(ROOMS:%=tests/%) --cov --cov-report= $(PYTEST)
	@for room in $(ROOMS); do echo "$$room"; $(BIN)/coverage report --skip-covered --show-missing --include="*/deep_clustering/$$room/*"; done

lint: $(VENV)/test.ok ## Style of the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

fuzz: $(VENV)/test.ok ## Feed every parser with FUZZ=2000 damaged inputs each that nobody has seen before
	@FUZZ_EXAMPLES=$(or $(FUZZ),2000) $(BIN)/python -m pytest tests/test_fuzz.py

types: $(VENV)/test.ok ## Types of the code
	@$(BIN)/mypy

# One resolution for Python 3.11 to 3.13 on every system; what is pinned stays unless UPGRADE=--upgrade.
COMPILE = pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

UPGRADE ?=
lock: $(VENV)/python.ok ## Pin the packages anew after a change of pyproject.toml; UPGRADE=--upgrade takes newer releases
	@$(if $(UV),,$(BIN)/python -m pip install --quiet --disable-pip-version-check uv)
	@$(or $(UV),$(BIN)/uv) $(COMPILE) $(UPGRADE) --extra dev --output-file requirements/test.txt
	@$(or $(UV),$(BIN)/uv) $(COMPILE) $(UPGRADE) --constraint requirements/test.txt --output-file requirements/run.txt

RESULTS := docs/results/digits.csv

results: $(VENV)/run.ok ## Run every seed of the README's table anew, and write the table
	@$(BIN)/kedro sweep --envs=digits --pipelines=dcan,dcan_literal,neural_mixture,neural_mixture_literal,kmeans,gmm,ward,tsne_gmm --seeds=0-9 --threads=1 --folder=data/sweeps/digits
	@cp data/sweeps/digits/runs.csv $(RESULTS)
	@$(BIN)/kedro leaderboard $(RESULTS) --readme=README.md --brief --baseline=tsne_gmm
	@$(BIN)/kedro leaderboard $(RESULTS) --readme=docs/results/index.md

picture: $(VENV)/run.ok ## Draw the picture of the README from a run of DCAN
	@$(BIN)/kedro run --pipelines=dcan --env=digits
	@$(BIN)/python docs/pictures.py data docs/clusters

commands: $(VENV)/run.ok ## Run every command of README and documentation in a fresh checkout, on stand-ins
	@rm -rf build/commands
	@git clone --quiet . build/commands
	@ln -s $(CURDIR)/$(VENV) build/commands/$(VENV)
	@$(BIN)/python docs/commands.py build/commands

tutorial: $(VENV)/run.ok ## Type the commands of the tutorial in a fresh checkout, and put what they print into the page
	@rm -rf build/tutorial
	@git clone --quiet . build/tutorial
	@$(BIN)/python docs/walk.py docs/tutorial.md build/tutorial

wheel: $(VENV)/test.ok ## Build the package into dist/
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

build/gallery/made.ok: $(VENV)/run.ok docs/hooks/gallery.py
	@echo "Running the three recipes of the gallery; this takes some minutes once."
	@$(BIN)/python docs/hooks/gallery.py
	@touch $@

gallery: ## Make the reports of the gallery anew
	@rm -f build/gallery/made.ok
	@$(MAKE) --no-print-directory build/gallery/made.ok

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/docs.ok build/gallery/made.ok ## Write the documentation as a static site to build/docs
	@$(BIN)/mkdocs build --quiet --strict
	@echo "build/docs/index.html"

audit: $(VENV)/audit.ok ## Report known weaknesses of the installed packages; never fails
	@mkdir -p build
	@timeout 300 $(BIN)/pip-audit --skip-editable --progress-spinner off >build/audit.txt 2>&1; code=$$?; \
	grep -v 'could not be audited' build/audit.txt; \
	echo "pip-audit ended with $$code; it could not look up $$(grep -c 'could not be audited' build/audit.txt) packages (build/audit.txt)"

viz: $(VENV)/viz.ok ## Open the pipelines in the browser
	@$(BIN)/kedro viz run --env=$(ENV)

viz-build: export KEDRO_ENV := $(ENV)
viz-build: $(VENV)/viz.ok ## Write the pipelines and the latest results of ENV as a static site to build/
	@$(BIN)/kedro viz build --include-previews
	@$(BIN)/python docs/hooks/graph_site.py build

ui: $(VENV)/run.ok ## Open the tracked runs in the browser
	@$(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}

clean: ## Remove the environment and caches; data and tracked runs stay
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
