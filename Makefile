# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test lint docs bench clean

help:
	@echo "make demo   set up .venv and find the domains of a simulated tissue (results in demo_output/)"
	@echo "make test   set up .venv, check style and types, run the tests"
	@echo "make lint   style and types only"
	@echo "make docs   the site of docs/, its tutorials run, in docs/_build/html"
	@echo "make bench  the tables of docs/: accuracy, robustness, number, speed, scale, peers, images … (needs the real data)"

# torch goes first and by itself: asked for by another package, pip may fetch the newest CUDA build instead.
.venv/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: .venv/.installed
	$(BIN)/stmmr demo --output demo_output --overwrite

# one thread for each of the processes: threads that wait for each other take twice the time
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# names that are gone would stay in the reference
docs: .venv/.installed
	rm -rf docs/api/generated
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --jobs=auto docs docs/_build/html

bench: .venv/.installed
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.robustness
	$(BIN)/python -m benchmarks.number
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.scale
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
	rm -rf .venv demo_output .mypy_cache .pytest_cache .ruff_cache docs/_build docs/api/generated
