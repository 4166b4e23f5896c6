# Each target is one command on a machine with only Python (3.11 or newer) and make.
PYTHON ?= python3
BIN := .venv/bin
PEOPLE ?= 2000
PORT ?= 8080
BENCH ?= all

.PHONY: demo test browser bench lint lock clean

demo: .venv/ready
	$(BIN)/fhirgw demo --people $(PEOPLE) --port $(PORT)

# Tests wait for disks and other processes: one more of them than there are cores. They start many processes, which read
# what was compiled.
test: .venv/ready
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n $$($(BIN)/python -c 'import os; print(min(4, os.cpu_count() + 1))') --dist loadfile --no-loadscope-reorder --ignore=tests/visits/browser

# Needs Chromium besides: `apt-get install chromium`, or FHIRGW_TEST_BROWSER=/path/to/one.
browser: .venv/ready
	$(BIN)/pytest tests/visits/browser

bench: .venv/ready
	$(BIN)/python -m tests.bench $(BENCH)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fhirgw check

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fhirgw needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# Re-resolves the lock file from pyproject.toml.
lock: .venv/ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv build dist data
