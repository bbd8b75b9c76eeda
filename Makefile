# Every target sets itself up in .venv first. It takes Python 3.11 or newer with pip, and make.
#
#   make demo ARGS="--epochs 5"      passes options on to the experiment, as TESTS does to pytest
#   make test PYTHON=python3.12      builds .venv with another Python (after `make clean`)

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
SOURCES := fnn tests experiments

.NOTPARALLEL:
.PHONY: help demo experiments test test-slow peers check format clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

demo: $(VENV)/.experiments  ## Watch a network learn handwritten digits, its gradients beside jax.grad's
	$(BIN)/python -m experiments.training.digits $(ARGS)

QUESTIONS := wrong_equations loops lives rows_or_columns bias when_to_update own_activations deep peers \
	batch_size files

experiments: $(VENV)/.test  ## Answer the questions of experiments/README.md, QUESTIONS (all) one by one
	@for name in $(QUESTIONS); do echo "== $$name"; $(BIN)/python -m experiments.questions.$$name $(ARGS) || exit 1; done

test: $(VENV)/.test  ## Run the tests, JOBS at a time (2)
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

test-slow: $(VENV)/.test  ## Run the heavy sweeps that `make test` leaves out
	$(BIN)/python -m pytest -n $(JOBS) -m slow $(TESTS)

peers:  ## Compare with Opacus, BackPACK, curvlinops; read models of Haiku and Penzai; in .venv-peers
	$(MAKE) VENV=.venv-peers .venv-peers/.peers
	.venv-peers/bin/python -m pytest -W default tests/peers

check: $(VENV)/.check  ## Check format, lint and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.check  ## Format the code and sort the imports
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:  ## Remove .venv and the caches
	rm -rf $(VENV) .venv-peers .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# A stamp for the environment, and one for each extra that is installed in it. Where Python comes without
# ensurepip (as Debian's may), its pip installs another into the environment.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fnn needs Python 3.11 or newer, \
	and $(PYTHON) is " + sys.version.split()[0] + ": try `make PYTHON=python3.12`")'
	$(PYTHON) -m venv --clear $(VENV) || \
	{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV) install --quiet pip; }
	@touch $@

$(VENV)/.%: pyproject.toml | $(VENV)/.made
	@echo "Installing fnn[$*] into $(VENV), which takes a minute ..."
	@$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@
