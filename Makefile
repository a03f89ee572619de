# Everything below needs Python 3.11 or newer (with venv) and make; the rest it fetches itself.
# uv is taken where the machine has it, else it goes into the virtual environment.

# A distribution's Python is built with profile-guided optimization, pyenv's only where that is asked for.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' app/__init__.py)
# What GPU machines download.
DAEMON := app/install/aiwm-node-daemon-$(VERSION).pyz
# What is said to be in it, and in the service.
SBOM := dist/aiwm-$(VERSION)-service.cdx.json dist/aiwm-$(VERSION)-daemon.cdx.json
UV := $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)
INSTALL := VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet
# Else each process of a test would compile all that it imports, anew: most of what its start takes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test check dashboards bench bench-fleet chaos hostile fuzz pictures format lock audit sbom security daemon wheel secrets clean

help:  ## Show what can be made.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

run: $(VENV)/.run $(DAEMON)  ## Start the service on http://localhost:3305 (Ctrl-C stops everything).
	@exec $(BIN)/aiwm serve --show-token

test: $(VENV)/.dev $(DAEMON)  ## Run all tests; `make test ARGS="-k ingest"` for some.
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev  ## Format, lint, types, import contract, dashboards, migrations.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy --python-version 3.10 app/worker app/protocol/wire.py app/repeats.py app/retry_after.py
	@$(BIN)/lint-imports
	@$(BIN)/python -m dashboards.build --check
	@$(BIN)/python -m pytest tests/integration/test_migrations.py -q

dashboards: $(VENV)/.dev  ## Write the files of Grafana's dashboards anew.
	@$(BIN)/python -m dashboards.build

bench: $(VENV)/.dev  ## Measure queries and disk; AIWM_BENCH_DATABASE_URL for a server of yours (TimescaleDB, say).
	@$(BIN)/python -m bench

bench-fleet: $(VENV)/.dev  ## 1,000 to 100,000 nodes at the document's cadence, ten minutes each: takes more than an hour.
	@AIWM_BENCH_NODES=1000,10000,20000,50000,100000 AIWM_BENCH_SECONDS=600 $(BIN)/python -m bench ingest

chaos: $(VENV)/.dev  ## Kill, stop and cut what there is under load, and count what was kept.
	@$(BIN)/python -m bench.chaos $(ARGS)

hostile: $(VENV)/.dev  ## Measure what 100 bad clients of every kind cost 1,000 good ones.
	@$(BIN)/python -m bench.hostile

fuzz: $(VENV)/.dev $(DAEMON)  ## Feed everything that takes input with what nobody sends, for AIWM_FUZZ_SECONDS (600).
	@$(BIN)/python -m tests.security.fuzz

pictures: $(VENV)/.dev dashboards/pictures/node_modules  ## Draw the dashboards of a simulated fleet into docs/pictures/; needs Node.js and Chromium.
	@$(BIN)/python -m dashboards.pictures

format: $(VENV)/.dev  ## Format the code and mend what can be mended.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(VENV)/.uv  ## Resolve the dependencies anew.
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --custom-compile-command "make lock" --constraint requirements.lock --group dev pyproject.toml \
	    -o requirements-dev.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --custom-compile-command "make lock" --constraint requirements-dev.lock --group build \
	    -o requirements-build.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --custom-compile-command "make lock" --group audit -o requirements-audit.lock
	@$(UV) pip compile --quiet --python-version 3.9 --python-platform x86_64-manylinux2014 --generate-hashes --upgrade \
	    --custom-compile-command "make lock" --group worker -o requirements-worker.lock

# Not in CI: it asks PyPI's own JSON API, which mirrors seldom have. What it cannot find out about is a failure.
audit: $(VENV)/.audit  ## Ask PyPI for known vulnerabilities of all that is locked.
	@for lock in requirements*.lock; do \
	    echo "$$lock"; $(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock || exit 1; done

sbom: $(SBOM)  ## Write what the service and the daemon are made of into dist/, as CycloneDX.

security: $(VENV)/.dev $(DAEMON)  ## Try what docs/security.md promises, and write its tables anew.
	@$(BIN)/python -m tests.security

daemon: $(DAEMON)  ## Pack the daemon of GPU machines into the one file that they download.

wheel: $(VENV)/.dev $(DAEMON)  ## Build the wheel into dist/.
	@$(BIN)/python -m hatchling build -t wheel

secrets:  ## Make the secrets and the .env that docker compose needs, where there are none.
	@sh deploy/secrets.sh

clean:  ## Remove the virtual environment and what tools left behind; .data stays.
	rm -rf $(VENV) dist app/install/*.pyz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf tests/timescale/node_modules dashboards/pictures/node_modules

dashboards/pictures/node_modules: dashboards/pictures/package-lock.json
	@cd dashboards/pictures && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.run: $(VENV)/.uv pyproject.toml requirements.lock
	@echo "Installing the locked dependencies …"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps -e .
	@touch $@

$(DAEMON): $(VENV)/.uv requirements-worker.lock deploy/worker/build.py app/__init__.py app/repeats.py app/retry_after.py app/protocol/wire.py $(wildcard app/worker/*.py)
	@$(BIN)/python deploy/worker/build.py $(UV)

$(VENV)/.audit: $(VENV)/.uv requirements-audit.lock
	@$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)/audit
	@VIRTUAL_ENV=$(VENV)/audit $(UV) pip install --quiet --require-hashes -r requirements-audit.lock
	@touch $@

$(filter %-service.cdx.json,$(SBOM)): LOCK := requirements.lock
$(filter %-daemon.cdx.json,$(SBOM)): LOCK := requirements-worker.lock
# Of an environment with nothing else in it: there stand the licences, and who needs whom.
$(SBOM): $(VENV)/.audit requirements.lock requirements-worker.lock
	@mkdir -p dist
	@$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)/of-$(LOCK)
	@VIRTUAL_ENV=$(VENV)/of-$(LOCK) $(UV) pip install --quiet --require-hashes -r $(LOCK)
	@$(VENV)/audit/bin/cyclonedx-py environment $(VENV)/of-$(LOCK) --pyproject pyproject.toml --output-reproducible -o $@
	@echo $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Installing what the tests need …"
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
