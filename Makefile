# `make demo` trains and tests a speech enhancer; `make test` runs all checks. Both create .venv if it does not exist.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# PIP_CONSTRAINT applies the constraints to builds from source too.
PIP    := PIP_CONSTRAINT=constraints.txt $(BIN)/pip --disable-pip-version-check

# pesq has no wheels. Everything else works without it: the table of scores omits PESQ, and its tests skip.
INSTALL_PESQ = $(PIP) install -c constraints.txt -e '.[pesq]' || \
  echo 'PESQ could not be built: it needs a C compiler. Everything else works without it.'

RECIPE := recipes/mini_denoise/crn
RUN    := $(RECIPE)/exp/baseline

LIGHT := click filelock hypothesis numpy packaging pluggy pytest rich safetensors soundfile structlog tomli xxhash
LIGHT_TESTS := $(addprefix tests/core/,comparison diagnostics results storage audio/test_table_cache.py \
  config/test_compose.py config/test_load.py config/test_references.py config/toml/test_document.py \
  distributed/test_cpus.py experiment/test_lock.py hooks/test_wrappers.py launcher/test_requeue.py \
  registry/test_compatibility.py scoring/test_conditions.py scoring/test_pairing.py scoring/test_progress.py \
  scoring/test_score_cache.py test_errors.py) --ignore=tests/core/results/test_scores.py

.PHONY: help demo test lint types unit test-all light torture trackers bench clean

help:            ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.user    ## train the small denoiser (three to four minutes of one CPU core), print its scores, write a report
	$(BIN)/audiozen run $(RECIPE)/baseline.toml --mode train test $(if $(wildcard $(RUN)/checkpoints/latest),--resume)
	$(BIN)/audiozen report $(RUN) -o $(RUN)/report.html

test: lint types unit  ## linter, type checker, all tests but the long ones; COVERAGE=yes measures the coverage too

lint: $(VENV)/.dev     ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev    ## mypy, strict
	$(BIN)/mypy

# Where Python may not write bytecode, each process that a test starts would compile the packages again.
unit: export PYTHONDONTWRITEBYTECODE :=
# Measuring takes half as long again on Python 3.11, so only CI does it. It fails below the floor in pyproject.toml.
unit: $(VENV)/.dev     ## the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -rs $(if $(COVERAGE),--cov --cov-report=term)

test-all: $(VENV)/.dev ## all tests, including the long ones
	$(BIN)/python -m pytest -n 2 -m "slow or not slow"

# Tests what works without torch, for the versions of Python without a CPU build of torch. Set VENV and PYTHON for each.
light: $(VENV)/.light  ## compile everything and run the tests that need no torch
	$(BIN)/python -m compileall -q audiozen audiozen_core audiozen_plugins
	$(BIN)/audiozen --help > /dev/null
	$(BIN)/audiozen plugins > /dev/null
	$(BIN)/python -m pytest -q --noconftest -p no:cacheprovider -k 'not workers' $(LIGHT_TESTS)

# They need 550 MB, so they have an environment of their own, and the other tests do without them.
trackers: $(VENV)-trackers/.done  ## the hooks for MLflow, Weights & Biases and trackio, with the real packages, without a network
	$(VENV)-trackers/bin/python -m pytest -q -rs -m "slow or not slow" tests/plugins/hooks/test_trackers.py

# Two machines and a network file system need root and tests/cluster/install.sh. Without them these tests are skipped.
torture: $(VENV)/.dev  ## only the long tests of docs/reliability.md (hours; some need strace, root, or tests/slurm/install.sh)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow -v -rs tests

# ROWS=sdnn_step measures one row only.
bench: $(VENV)/.bench  ## the table of docs/performance.md: speed and memory beside other tools (best on a quiet machine)
	$(BIN)/python -m benchmarks $(ROWS) --json benchmarks.json

clean:           ## remove the environment and all caches
	rm -rf $(VENV) $(VENV)-trackers .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*

# Each stamp file records an installation, so that pip runs again only when the project's metadata have changed.
$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.user: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[dnsmos,stoi,tensorboard]'
	$(INSTALL_PESQ)
	touch $@

$(VENV)/.light: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt $(LIGHT)
	$(PIP) install --no-deps -e .
	touch $@

$(VENV)-trackers/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-trackers
	PIP_CONSTRAINT=constraints.txt $(VENV)-trackers/bin/pip --disable-pip-version-check install -c constraints.txt \
	  -e '.[mlflow,tensorboard,trackio,wandb]' hypothesis pytest pytest-cov
	touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(INSTALL_PESQ)
	touch $@ $(VENV)/.user

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install -c constraints.txt -e '.[bench]'
	touch $@
