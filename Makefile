# One virtual environment, .venv, for everything. PYTHON must be 3.11 or newer.
#
# Which torch: pip takes the build that your package index offers. To choose, name an index of PyTorch's own
# (see "Get Started" on pytorch.org):     make install TORCH_INDEX=URL
# or let uv choose by itself:             make install UV_TORCH=cpu      (or cu130, or auto)

PYTHON ?= python3
TORCH_INDEX ?=
UV_TORCH ?=
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin

export OMP_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE # a test in a process of its own would compile all that it imports, each time

.PHONY: install install-dev demo test lint types check-long bench format clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# both stamps: one line makes the environment, one installs; $(1) are the extras, $(2) flags of pip: tests import a small
# part of what is installed, and Python compiles that part then
define INSTALL
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit("apportion needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(if $(UV_TORCH),$(BIN)/python -m pip install -q uv && VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --torch-backend=$(UV_TORCH) -c constraints.txt -e '.[$(1)]',$(if $(TORCH_INDEX),$(BIN)/python -m pip install -q $(2) -c constraints.txt --index-url $(TORCH_INDEX) torch,true) && $(BIN)/python -m pip install -q $(2) -c constraints.txt -e '.[$(1)]')
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call INSTALL,tensorboard$(comma)video)
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(call INSTALL,dev,--no-compile)
	touch $@ $(VENV)/.installed

comma := ,

# installs, then learns Reacher-v5 from episodic returns alone: about 5 minutes on 2 cores
demo: install
	$(BIN)/apportion demo

test: install-dev lint types
	$(BIN)/pytest -m "not long" -n $(WORKERS) --durations 15

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

# the tests that train for minutes
check-long: install-dev
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[check]'
	$(BIN)/pytest -m long -n $(WORKERS) --timeout 5400

# the numbers in docs/results: speed against stable-baselines3, memory
bench: install-dev
	$(BIN)/python benchmarks/speed.py

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
