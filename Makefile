# What there is to make. Everything runs from .venv/bin; `make env` builds it, and every other target does that first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env demo test lint bench clean train-env

# --- choices, all of which can be given on the command line: make demo EPOCHS=10 ------------------------------------
PYTHON ?= python3
SCAN ?= tests/data/demo.hspy
PHASE ?= datasets/phases/LiNiO2.cif
MIN_CONFIDENCE ?= 0.8
SIMULATED ?= 4000
EPOCHS ?= 24
INPUT_SIZE ?= 64
SEED ?= 0
DEMO ?= demo
TEST_PROCESSES ?= 2
BENCH_EVERY ?= 3
# --------------------------------------------------------------------------------------------------------------------

BIN := .venv/bin
ENV := .venv/.built
PYTHONS := $(if $(filter python3,$(PYTHON)),python3 python3.13 python3.12 python3.11,$(PYTHON))

help:
	@echo "make env    build .venv from constraints.txt (Python 3.11 to 3.13)"
	@echo "make demo   index a scan, build a dataset, train a network, write a report, all into $(DEMO)/"
	@echo "make test   ruff, mypy and all tests"
	@echo "make lint   ruff and mypy alone"
	@echo "make bench  measure accuracy of labels and speeds on a scan (SCAN=... PHASE=...)"
	@echo "make clean  remove $(DEMO)/ and caches; .venv stays"

env: $(ENV)

$(ENV): pyproject.toml constraints.txt
	@fits() { command -v "$$1" > /dev/null && "$$1" -c \
	    'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null; }; \
	if [ -e .venv ] && ! fits $(BIN)/python; then rm -rf .venv; fi; \
	if [ ! -e .venv ]; then \
	  for python in $(PYTHONS) none; do if fits $$python; then break; fi; done; \
	  if [ $$python = none ]; then \
	    echo "error: Python 3.11, 3.12 or 3.13 is needed, and none of these is one: $(PYTHONS)." \
	      "Install one, then: make env PYTHON=/path/to/python" >&2; exit 2; fi; \
	  $$python -m venv .venv || { rm -rf .venv; \
	    echo "error: $$python cannot make an environment. Install its venv module (Debian, Ubuntu: python3-venv)." >&2; \
	    exit 2; }; \
	fi
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[curate,train,export,test]"
	$(BIN)/python -m dpcurate.numba_cache
	@touch $(ENV)

demo: $(ENV)
	@rm -rf $(DEMO)/runs/demo; mkdir -p $(DEMO); date +%s > $(DEMO)/.started
	$(BIN)/dpcurate index $(SCAN) --phase $(PHASE) --out $(DEMO)/demo.index --overwrite
	$(BIN)/dpcurate build-dataset $(DEMO)/demo.index --name demo --min-confidence $(MIN_CONFIDENCE) \
	  --simulated $(SIMULATED) --like --seed $(SEED) --root $(DEMO)/datasets > $(DEMO)/.dataset
	$(BIN)/dptrain run --model cnn --dataset "$$(tail -n 1 $(DEMO)/.dataset)" --epochs $(EPOCHS) --seed $(SEED) \
	  --input-size $(INPUT_SIZE) --runs $(DEMO)/runs --name demo
	$(BIN)/dptrain predict $(DEMO)/runs/demo $(SCAN)
	$(BIN)/dptrain report $(DEMO)/runs/demo
	@echo; echo "Made in $$(( $$(date +%s) - $$(cat $(DEMO)/.started) )) seconds. Everything lies in $(DEMO)/:"
	@echo "  runs/demo/report.html    the page to open: maps, histograms, numbers"
	@echo "  runs/demo/               the trained network, its settings, its metrics.csv and its map of the scan"
	@echo "  demo.index/              the map by template matching, pictures in maps/"
	@echo "  datasets/demo/           the dataset, with a card and a manifest"

lint: $(ENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a process: two processes share the cores without getting into each other's way.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile

bench: $(ENV)
	$(BIN)/python benchmarks/index.py --scan $(SCAN) --phase $(PHASE) --every $(BENCH_EVERY) --out $(DEMO)/bench
	$(BIN)/python benchmarks/models.py

# Slow (a second installation of torch), so no part of `make test`: training in an environment without pyxem.
train-env: $(ENV)
	rm -rf .venvs/train
	$(BIN)/python -m venv .venvs/train
	.venvs/train/bin/python -m pip install --constraint constraints.txt ".[train]"
	cd .venvs && train/bin/python -c "import importlib.util as u; assert not u.find_spec('pyxem'); import dptrain.train"
	cd .venvs && train/bin/dptrain run --help

clean:
	rm -rf $(DEMO) build .pytest_cache .ruff_cache .mypy_cache .hypothesis .venvs
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
