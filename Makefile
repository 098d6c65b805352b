# make demo, make test: all that a new machine with Python 3.11 needs. make help lists the rest.

PYTHON ?= python3
VENV ?= .venv
PAGE ?= yes
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick soak check fix sbom audit docs peers interop clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## install everything into .venv

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "this Python has no venv: install your system's python3-venv package"; exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## train, export, serve and ask three small tasks; PAGE=no ends after the table
	$(BIN)/adamix-demo $(if $(filter no,$(PAGE)),--no-page)

# One worker more than there are cores, four at most: some tests wait for servers and other processes.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 3 ? cores + 1 : 4)))
# Commands that tests start would otherwise compile the project anew where byte code is switched off.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup ## run every test, a file at a time in each worker
	$(PYTEST)

test-quick: setup ## run the tests that take seconds, and trace no model
	$(PYTEST) -m 'not slow and not soak'

soak: setup ## run the long forms: reliability, a cluster that loses a node, serve without torch, README's trainings
	$(PYTEST) -m soak

check: setup ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup ## format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The packages of a server, as the images have them.
SERVE_VENV ?= .venv-serve
SBOM ?= sbom.json

$(SERVE_VENV)/.installed: $(VENV)/.installed
	$(PYTHON) -m venv --clear --without-pip $(SERVE_VENV)
	$(BIN)/python -m pip --python $(SERVE_VENV)/bin/python install --quiet --disable-pip-version-check -c constraints.txt '.[cpu,grpc]'
	@touch $@

sbom: $(SERVE_VENV)/.installed ## write the packages of a server and their licences to sbom.json (CycloneDX)
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible --gather-license-texts \
	  --output-format JSON --output-file $(SBOM) $(SERVE_VENV)

audit: $(SERVE_VENV)/.installed ## look up known vulnerabilities of all packages, where the database can be reached
	$(BIN)/python deploy/audit.py $(SERVE_VENV)/lib/python*/site-packages $(VENV)/lib/python*/site-packages

docs: setup ## build the documentation into site/; any warning fails
	$(BIN)/python -m docs.site

peers: setup ## environments of the other tools that benchmarks and tests run
	$(BIN)/python -m benchmarks.peers

interop: setup ## run other projects' clients, evaluators and load generators against adamix-serve
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.interop --json benchmarks/results/interop.json > benchmarks/results/interop.md

clean: ## remove the environments and the runs
	rm -rf site .venv .venv-peers .venv-serve sbom.json runs
