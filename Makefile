# Two commands for a newcomer: `make demo` and `make test`. Everything else serves them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test check slow docs clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/perturbcast demo --out demo --jobs 2

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m 'not slow'

slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

check: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks scripts examples
	$(BIN)/ruff format --check src tests benchmarks scripts examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -m 'not slow'

docs: $(INSTALLED)
	$(BIN)/python scripts/error_table.py
	$(BIN)/python scripts/model_docs.py
	$(BIN)/python scripts/metric_docs.py

clean:
	rm -rf $(VENV) demo build dist
