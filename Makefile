# Two commands: `make bench` (train, measure, report on built-in data; GATE=--gate judges it too, METHODS=all measures
# every method) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: bench test lint clean

bench: $(if $(METHODS),$(VENV)/.with-networks,$(STAMP))
	$(BIN)/python -m pytest suites/ --benchmark-only --profile smoke $(if $(METHODS),--methods $(METHODS)) $(GATE); \
	status=$$?; $(BIN)/sdseg report && exit $$status

# A process per core: what is tested is too small to gain from a second thread.
test: $(VENV)/.with-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/.with-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch first and pinned: a resolver that meets an unpinned torch may pick another build.
$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# An extra of pyproject.toml on top: linters and what the tests need (dev), networks of other libraries (networks).
$(VENV)/.with-%: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) runs .benchmarks
