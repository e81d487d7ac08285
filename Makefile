# `make help` lists the targets. Each works from nothing but Python 3.11 or later and pip.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# A CPU build of torch by default; with CUDA=1 the newest, as the package index gives it.
CONSTRAINTS := $(if $(CUDA),,-c constraints.txt)

# The AOSA journal's tables and figures, and what the cut of STEP's iterations costs.
REPRODUCED := table1 table4 table5 table6 table7 fig4 fig5 fig7 fig8 step

.PHONY: help setup demo reproduce-demo docs test test-slow kills fuzz lint bench weights-i3d clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make the virtual environment (.venv) and install aosa into it; CUDA=1 for a GPU

$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: setup ## run the whole pipeline on the embedded data set; ends in outputs/demo/report/index.html
	$(PY) scripts/reproduce.py experiment=demo

reproduce-demo: setup ## the journal's tables and figures on the embedded data set, n = 200 (an hour or more; LIMIT=5 for a look)
	for name in $(REPRODUCED); do $(PY) scripts/reproduce.py experiment=demo_$$name $(if $(LIMIT),limit=$(LIMIT)) || exit; done

docs: setup ## build the documentation into site/; open site/index.html
	$(VENV)/bin/mkdocs build --strict --quiet

test: setup ## run the tests, but for the slow ones
	$(PY) -m pytest -n 2 --dist worksteal -m 'not slow'

test-slow: setup ## run the slow tests
	$(PY) -m pytest -n 2 --dist worksteal -m slow

kills: setup ## kill the stages N times (200) and compare what they make in the end
	$(PY) -m tests.kills N=$(or $(N),200)

fuzz: setup ## feed damaged and odd inputs to every reader, in child processes; N=5000 of each group, GROUP=pickles of one
	$(PY) -m tests.fuzz $(GROUP) -n $(or $(N),100)

lint: setup ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: setup ## print speed and memory as ratios to bare passes; REFERENCE=<folder of clones> compares the models too
	$(PY) scripts/benchmark.py $(if $(REFERENCE),'reference="$(abspath $(REFERENCE))"')

weights-i3d: setup ## fetch the Kinetics-400 weights of I3D into data/weights
	$(PY) scripts/weights_i3d.py

clean: ## remove the virtual environment and the caches; data and outputs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
