# Everything runs in .venv, which `make setup` creates from pyproject.toml under the pins of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := data,recorded,rewards,plots,test

.PHONY: setup demo test lint format clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sv-jax needs Python 3.11 or later; found %s: make PYTHON=python3.12 …" % sys.version.split()[0])'
	@echo "installing into .venv: a few minutes, once"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

demo: setup
	$(BIN)/sv-jax demo

# worksteal gives each worker half of the files, so that most modules set their fixtures up once
test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .jax_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
