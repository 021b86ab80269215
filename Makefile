# On a fresh machine with git, make and Python 3.11+: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Two workers with one thread each are faster on 2 cores than one process with two threads.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

.PHONY: install demo test test-slow test-faults fuzz check coverage docs format clean

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

.venv/tested: .venv/installed requirements-dev.lock
	$(BIN)/pip install --quiet --requirement requirements-dev.lock
	@touch $@

.venv/documented: .venv/installed requirements-docs.lock
	$(BIN)/pip install --quiet --requirement requirements-docs.lock
	@touch $@

demo: .venv/installed
	$(BIN)/diffae demo --out demo

test: .venv/tested
	$(PYTEST)

test-slow: .venv/tested
	$(PYTEST) -m slow

# Hours of mutated files for every reader: make fuzz FUZZ_CASES=1000000 FUZZ_SECONDS=36000
FUZZ_CASES ?= 100000
FUZZ_SECONDS ?= 7200
fuzz: .venv/tested
	$(BIN)/python tests/fuzz/run.py --cases $(FUZZ_CASES) --seconds $(FUZZ_SECONDS)

test-faults: .venv/tested
	$(PYTEST) -m slow tests/faults

check: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest tests/test_imports.py

coverage: .venv/tested
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n $(WORKERS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

docs: .venv/documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: .venv/tested
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .coverage* build demo dist site
