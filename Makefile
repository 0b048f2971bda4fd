# Two commands from a fresh clone: `make demo` and `make test`. Everything installs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# One more than there are cores, because some tests wait; but no more than memory is sure to hold.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8) + 1)')
C := $(wildcard worker/ingest/skim/*.[ch])

.PHONY: demo test check bench fuzz format lock clean help

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.run  ## the whole worker on an embedded AWS, from nothing
	@$(BIN)/python -m worker demo

test: $(VENV)/.dev  ## every test, on all cores; what this machine lacks is skipped with its reason
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

check: $(VENV)/.dev  ## formatting, lint, types, import contracts, spelling
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(C)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m worker rules check worker/detect/rules
	$(BIN)/python -m worker rules test worker/detect/rules

bench: $(VENV)/.dev  ## what things cost, as ratios; real logs in ../shared/data are used where they are
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.rules
	$(BIN)/python -m benchmarks.objects
	$(BIN)/python -m benchmarks.cores
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.enrich

SECONDS := 60
fuzz: $(VENV)/.dev  ## look for a text that the compiled pass reads differently: SECONDS=60, SEED=.., SANITIZED=1 watches its memory
	$(BIN)/python -m tests.ingest.fuzz_skim --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(SANITIZED),--sanitized)

format: $(VENV)/.dev  ## rewrite the code as `check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C)

lock:  ## resolve pyproject.toml again into the lock files (needs uv)
	uv lock --upgrade --quiet
	uv export --quiet --no-dev --no-emit-project --no-header --no-annotate --format requirements-txt -o requirements.lock
	uv export --quiet --no-dev --extra demo --no-emit-project --no-header --no-annotate --format requirements-txt -o requirements-demo.lock
	uv export --quiet --only-group build --no-emit-project --no-header --no-annotate --format requirements-txt -o requirements-build.lock
	uv export --quiet --all-extras --no-emit-project --no-header --no-annotate --format requirements-txt -o requirements-dev.lock

clean:  ## forget the environment and everything generated
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache worker/ingest/skim/*.so

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Trailmend needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements-demo.lock | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements-demo.lock
	@touch $@

# pip keeps to itself what a build says; that Trailmend is without its compiled part, and why, is said all the same.
$(VENV)/.dev: requirements-dev.lock pyproject.toml hatch_build.py $(C) | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements-dev.lock
	@rm -f $(VENV)/build.log
	$(PIP) install --log $(VENV)/build.log --no-deps --no-build-isolation --editable .
	@grep --only-matching --max-count=1 'Trailmend is without its compiled part.*' $(VENV)/build.log || true
	@touch $@ $(VENV)/.run
