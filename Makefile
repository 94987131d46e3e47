# make help lists what there is. Each target sets up whatever it needs by itself.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_AUDIT := $(VENV)/.ready-audit
# One more than two cores, since much of a test is waiting; a module's tests stay together.
AT_ONCE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
DEMO_FLAGS := $(if $(filter 1,$(ONCE)),--once)
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("x402jobs needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(READY): $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(READY_DEV): $(READY)
	$(PIP) --editable '.[dev]'
	@touch $@

$(READY_AUDIT): $(READY_DEV)
	$(PIP) --editable '.[audit]'
	@touch $@

.PHONY: install
install: $(READY)  ## make the environment and install the package

.PHONY: demo
demo: $(READY)  ## serve a template and a task, buy one answer and run it live (ONCE=1: end after that)
	$(BIN)/x402jobs demo $(DEMO_FLAGS)

.PHONY: demo-supabase
demo-supabase: $(READY_DEV)  ## the same over a Supabase project on this machine, which it starts
	$(BIN)/python -m tests.supabase run $(BIN)/x402jobs demo --data .x402jobs/supabase $(DEMO_FLAGS)

.PHONY: serve
serve: $(READY)  ## serve on the embedded store
	$(BIN)/x402jobs serve

.PHONY: check
check: $(READY_DEV)  ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(READY_DEV)  ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test
test: check  ## the checks, then every test, with branch coverage
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest $(AT_ONCE) --cov --cov-report=
	$(BIN)/coverage report
	$(BIN)/coverage report --include 'x402jobs/domain/*,x402jobs/services/*' --fail-under 95

.PHONY: test-supabase
test-supabase: $(READY_DEV)  ## the wire tests of both doors, all of them, over a Supabase project
	X402JOBS_TEST_SUPABASE=whole $(BIN)/python -m pytest $(AT_ONCE) tests/supabase/wire

.PHONY: test-whole
test-whole: $(READY_DEV)  ## all of what `make test` samples: every cut, every tree, every row
	X402JOBS_TEST_WHOLE=1 $(BIN)/python -m pytest $(AT_ONCE) \
	    tests/blueprints/test_after_settlement.py tests/contract/test_tiles.py \
	    tests/services/test_rotation_under_load.py

.PHONY: outages
outages: $(READY_DEV)  ## take away all that is depended on, one after the other, and time the return
	$(BIN)/python -m tests.outages $(OUTAGES)

.PHONY: battery
battery: $(READY_DEV)  ## kill, lie, replay and leave, at full size (an hour): does the money survive?
	$(BIN)/python -m tests.battery $(BATTERY)
	$(BIN)/python -m tests.battery --store supabase replays steps freezes kills
	$(BIN)/python -m tests.simulator --histories 1000000 --every-pair
	$(BIN)/python -m tests.simulator --mutants
	$(BIN)/python -m tests.two_hosts

.PHONY: load
load: $(READY_DEV)  ## streams, slow callers, restarts through nginx, at full size (half an hour)
	$(BIN)/python -m tests.load $(LOAD)

.PHONY: hostile
hostile: $(READY_DEV)  ## ten thousand fuzzed requests, and a search for secrets in all that is left behind
	$(BIN)/python -m tests.hostile.fuzz
	$(BIN)/python -m tests.hostile.canaries

.PHONY: lock
lock: $(READY_AUDIT)  ## lock what goes into the image: every wheel by its SHA-256
	$(BIN)/python -m deploy.lock

.PHONY: audit
audit: $(READY_AUDIT)  ## the image's recipe, hashes, licences, known holes; build/sbom.json
	$(BIN)/python -m deploy.audit

.PHONY: image-test
image-test: $(READY_DEV)  ## build the image and buy an answer from it (root, on Debian; ten minutes)
	$(BIN)/python -m tests.image

.PHONY: bench-quick
bench-quick: $(READY_DEV)  ## CPU per delta of the product and of a naive relay, side by side
	$(BIN)/python -m benchmarks.quick

.PHONY: bench
bench: $(READY_DEV)  ## every goal of performance in six rounds (forty minutes, on a quiet machine)
	$(BIN)/python -m benchmarks --write benchmarks/results $(BENCH)

.PHONY: clean
clean:  ## remove the environment and everything built
	rm -rf $(VENV) tests/interop/node_modules tests/supabase/node_modules build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
