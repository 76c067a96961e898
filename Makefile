# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: help demo test test-all test-faults test-fuzz test-newest test-oldest lint docs bench dist clean

help:
	@echo "make demo   set up .venv with the core packages and find the domains of a simulated tissue (results in demo_output/)"
	@echo "make test   add what tests need to .venv, check style and types, run the tests"
	@echo "make test-newest, make test-oldest   the fast tests in new environments, with the newest and the oldest versions of packages"
	@echo "make test-all   the tests that take long as well"
	@echo "make test-faults   kills, full disks, two commands at once, replaced inputs (KILLS=100 SEED=0)"
	@echo "make test-fuzz   damaged files and odd data (READS=5000 ODD=1000 RESULTS=600)"
	@echo "make lint   style and types only"
	@echo "make docs   the site of docs/, its tutorials run, in docs/_build/html"
	@echo "make dist   the wheel and the source archive, checked, in dist/"
	@echo "make bench  the tables of docs/: accuracy, robustness, number, speed, scale, peers, images … (needs the real data)"

# The Python is checked before anything else; GOAL is named in the message.
SETUP = @command -v "$(PYTHON)" > /dev/null || { \
	echo "Python 3.11 or newer is needed, and there is no command '$(PYTHON)'; install it, then run: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3"; exit 1; }; \
	GOAL="$(MAKECMDGOALS)" "$(PYTHON)" tools/setup_venv.py

.venv/.core: requirements.txt pyproject.toml
	$(SETUP) core

.venv/.installed: .venv/.core
	$(SETUP) all

demo: .venv/.core
	$(BIN)/stmmr demo --output demo_output --overwrite

# one thread for each of the processes: threads that wait for each other take twice the time
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not nightly"

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

KILLS ?= 100
SEED ?= 0
test-faults: .venv/.installed
	OMP_NUM_THREADS=1 STMMR_KILLS=$(KILLS) STMMR_SEED=$(SEED) $(BIN)/python -m pytest tests/faults -n auto --dist worksteal

READS ?= 5000
ODD ?= 1000
RESULTS ?= 600
test-fuzz: .venv/.installed
	OMP_NUM_THREADS=1 STMMR_FUZZ_READS=$(READS) STMMR_FUZZ_ODD=$(ODD) STMMR_FUZZ_RESULTS=$(RESULTS) \
		$(BIN)/python -m pytest tests/fuzz -n auto --dist worksteal

# The newest versions need a newer Python than the oldest ones. torch comes by TORCH=torch; without it, tests that need it
# are skipped. More options: ARGS="--keep -x tests/io".
PYTHON_NEWEST ?= python3.13
PYTHON_OLDEST ?= python3.11
TORCH ?=
test-newest:
	"$(PYTHON_NEWEST)" tools/test_versions.py newest --torch "$(TORCH)" $(ARGS)

test-oldest:
	"$(PYTHON_OLDEST)" tools/test_versions.py oldest --torch "$(TORCH)" $(ARGS)

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# names that are gone would stay in the reference
docs: .venv/.installed
	rm -rf docs/api/generated
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --jobs=auto docs docs/_build/html

dist: .venv/.core
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

bench: .venv/.installed
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.robustness
	$(BIN)/python -m benchmarks.number
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.cohort
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.images
	$(BIN)/python -m benchmarks.encoders
	$(BIN)/python -m benchmarks.modalities
	$(BIN)/python -m benchmarks.genes
	$(BIN)/python -m benchmarks.trajectory
	$(BIN)/python -m benchmarks.denoising
	$(BIN)/python -m benchmarks.sections
	$(BIN)/python -m benchmarks.report

clean:
	rm -rf .venv .venv-newest .venv-oldest demo_output dist .mypy_cache .pytest_cache .ruff_cache docs/_build docs/api/generated
