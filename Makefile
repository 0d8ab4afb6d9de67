# `make demo` and `make test` are all a newcomer needs; both create .venv on first use.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where to take torch from, if not from the usual index: https://download.pytorch.org/whl/cpu has
# the builds without CUDA.
TORCH_INDEX ?=
# Two processes, of which each keeps a file's tests together until the other has none left.
PARALLEL := -n 2 --dist worksteal --durations=10
# Where it is set, every process compiles this program anew, and pytest rewrites every test.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-slow test-long coverage lint compare audit benchmarks clean

$(STAMP): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
ifneq ($(TORCH_INDEX),)
	$(BIN)/pip install --quiet --disable-pip-version-check --index-url $(TORCH_INDEX) $$(grep -E '^torch(vision)?==' requirements.txt)
endif
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: $(STAMP)
	$(BIN)/python -m jobs.synthesize --config configs/demo.yaml
	$(BIN)/python -m jobs.prepare --config configs/demo.yaml
	$(BIN)/python -m jobs.train --config configs/demo.yaml
	$(BIN)/python -m jobs.evaluate --config configs/demo.yaml
	@echo
	@echo "Look at the run in MLflow: $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000"
	@echo "and open http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning (MLflow itself opens with its pages for language models: press Model training)"

test: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) -m slow

# Hours, so it may be stopped: the next start leaves out what passed at this revision.
test-long: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) -m long --resume runs/test-long.csv

# Which lines of pipeline/ the fast tier runs; what other processes run is not counted.
coverage: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) --cov=pipeline --cov-branch --cov-report=term:skip-covered --cov-report=html:runs/coverage

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

compare: $(STAMP)
	$(BIN)/python -m jobs.ablate --config configs/compare.yaml

audit: $(STAMP)
	$(BIN)/python -m jobs.audit --config configs/demo.yaml

benchmarks: $(STAMP)
	$(BIN)/python -m benchmarks.synthesis
	$(BIN)/python -m benchmarks.reader

clean:
	rm -rf data/demo runs/coverage .coverage .pytest_cache .ruff_cache .hypothesis
