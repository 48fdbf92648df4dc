# `make demo` trains and tests a speech enhancer; `make test` runs all checks. Each makes .venv if it is not there.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Builds from source are made under the same versions as the rest.
PIP    := PIP_CONSTRAINT=constraints.txt $(BIN)/pip --disable-pip-version-check

# pesq has no wheels. All else works without it: the table of scores leaves it out, and its tests skip.
INSTALL_PESQ = $(PIP) install -c constraints.txt -e '.[pesq]' || \
  echo 'PESQ could not be built, which takes a C compiler. Everything else goes on without it.'

RECIPE := recipes/mini_denoise/sdnn
RUN    := $(RECIPE)/exp/baseline

.PHONY: help demo test lint types unit test-all torture clean

help:            ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.user    ## train the small denoiser (two to three minutes on two cores) and print its table of scores
	$(BIN)/audiozen run $(RECIPE)/baseline.toml --mode train test $(if $(wildcard $(RUN)/checkpoints/latest),--resume)

test: lint types unit  ## linter, type checker, all tests with coverage

lint: $(VENV)/.dev     ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev    ## mypy, strict
	$(BIN)/mypy

unit: $(VENV)/.dev     ## the tests, with coverage
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term

test-all: $(VENV)/.dev ## the long proofs too
	$(BIN)/python -m pytest -n 2 -m "slow or not slow"

torture: $(VENV)/.dev  ## the long proofs of docs/reliability.md alone (three quarters of an hour; one part needs strace)
	$(BIN)/python -m pytest -m slow -v -rs tests/reliability tests/core/checkpoint

clean:           ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*

# A stamp is as new as its last installation; nothing is installed again until the project's metadata change.
$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.user: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[dnsmos,stoi,tensorboard]'
	$(INSTALL_PESQ)
	touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(INSTALL_PESQ)
	touch $@ $(VENV)/.user
