# `make demo` and `make test` set up everything they need in .venv; nothing but Python and make is assumed.
# `make gpu` sets nothing up: it takes what the Python of a GPU machine has (research/gpu.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# As many tests at once as there are cores, each on one; a file's tests stay together, since they share what they made.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast lint gpu setup clean

demo: $(STAMP)
	$(BIN)/memfix demo $(ARGS)
	@echo 'To call memfix yourself: $(BIN)/memfix --help, or first: . $(BIN)/activate'

test: $(STAMP) lint
	$(PYTEST) $(ARGS)

# The daily loop: a few minutes instead of a quarter of an hour. Leaves out what is marked slow, and the types.
test-fast: $(STAMP)
	$(BIN)/ruff check --quiet .
	$(PYTEST) -m "not slow" $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu:
	$(PYTHON) research/gpu.py $(ARGS)

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("memfix needs Python 3.10 or newer; set PYTHON=...") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist
