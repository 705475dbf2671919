# quickstart, test, check, docs: each sets up what it needs in .venv, from nothing but Python 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt

.PHONY: quickstart test check docs lock bench bench-decode bench-encoders bench-evaluate bench-search bench-startup bench-plan bench-scale \
  bench-overhead bench-peers bench-milvus clean

# torch first and by its exact version: from a range, pip would take the newest CUDA build.
TORCH := $(shell grep '^torch==' .ci/constraints.txt)

$(VENV)/.base: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) -e '.[app,dev,test]'
	touch $@

$(VENV)/.docs: $(VENV)/.base
	$(PIP) -e '.[docs]'
	touch $@

quickstart: $(VENV)/.base
	$(BIN)/vidembed quickstart --out quickstart

test: $(VENV)/.dev
	$(BIN)/python -m tests

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --config-file .mkdocs.yml

lock:
	.ci/lock

# All benchmarks and one table: a short form, ARGS=--full for what is published
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/bench.py $(ARGS)

# CPU time of decoding beside others, in an environment of its own; e.g. ARGS='--videos FOLDER'
bench-decode:
	$(PYTHON) benchmarks/decode.py $(ARGS)

# Speed and precision of the encoders on this machine; e.g. ARGS='--weights NAME=PATH'
bench-encoders: $(VENV)/.base
	$(BIN)/python benchmarks/encoders.py $(ARGS)

# The exact ranking, and the search of a run, at a million vectors (2 GB below the temporary folder);
# what a job of five clips costs; the job at ten million rows (ARGS='--videos 200_000' is short)
bench-evaluate bench-search bench-startup bench-scale: $(VENV)/.base
	$(BIN)/python benchmarks/$(@:bench-%=%).py $(ARGS)

# What `plan` predicts beside what `embed` then takes
bench-plan: $(VENV)/.dev
	$(BIN)/python benchmarks/plan.py $(ARGS)

# Embedding beside other tools (7 GB of environments); a Milvus server beside a bare loop
bench-overhead bench-peers bench-milvus: $(VENV)/.dev
	$(BIN)/python benchmarks/$(@:bench-%=%).py $(ARGS)

clean:
	rm -rf $(VENV) site quickstart .pytest_cache .mypy_cache .ruff_cache
