# Every target sets itself up in .venv first. It takes Python 3.11 or newer with pip, and make.
#
#   make demo ARGS="--epochs 5"      passes options on to the experiment, as TESTS does to pytest
#   make test PYTHON=python3.12      builds .venv with another Python (after `make clean`)

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
SOURCES := fnn packages tests experiments
CHECKER := packages/vjpcheck

.NOTPARALLEL:
.PHONY: help demo experiments pictures test test-thorough times test-slow bench peers wild check format docs \
	docs-serve docs-test release-check clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

demo: $(VENV)/.experiments  ## Watch a network learn handwritten digits, its gradients beside jax.grad's
	$(BIN)/python -m experiments.training.digits $(ARGS)

QUESTIONS := wrong_equations loops lives rows_or_columns bias when_to_update own_activations deep peers \
	batch_size files

experiments: $(VENV)/.test  ## Answer the questions of docs/questions.md, QUESTIONS (all) one by one
	@for name in $(QUESTIONS); do echo "== $$name"; $(BIN)/python -m experiments.questions.$$name $(ARGS) || exit 1; done

pictures: $(VENV)/.test  ## Draw the documentation's pictures anew, from the questions' last results, and its catalogue
	$(BIN)/python -m experiments.site.concepts
	$(BIN)/python -m experiments.site.activations
	$(BIN)/python -m experiments.site.questions
	$(BIN)/python -m experiments.bench.plans --pictures docs/pictures
	$(BIN)/python -m experiments.bench.pipeline --pictures docs/pictures
	$(BIN)/python -m experiments.site.mistakes

test: $(VENV)/.test  ## Run the quick tests, JOBS at a time (2), and name the twenty slowest
	$(BIN)/python -m pytest -n $(JOBS) --durations 20 $(TESTS)

test-thorough: $(VENV)/.test  ## Run what else a change must pass: further rows of the tables, scripts to their ends
	$(BIN)/python -m pytest -n $(JOBS) -m 'thorough and not slow' $(TESTS)

times: $(VENV)/.test  ## Time every test but the slow, and choose those that `make test` leaves out
	mkdir -p build && rm -f build/times.jsonl
	$(BIN)/python -m pytest -n $(JOBS) -m 'not slow' --times build/times.jsonl $(TESTS)
	$(BIN)/python -m tests.by_time build/times.jsonl $(ARGS)

test-slow: $(VENV)/.test  ## Run the heavy sweeps, some of them for hours
	XLA_FLAGS= $(BIN)/python -m pytest -n $(JOBS) -m slow $(TESTS)

bench: $(VENV)/.experiments  ## Print every ratio to the rivals beside the last committed one, in ten minutes
	$(BIN)/python -m experiments.bench.gate $(ARGS)

peers:  ## Compare with Opacus, BackPACK, curvlinops; read models of Haiku and Penzai; in .venv-peers
	$(MAKE) VENV=.venv-peers .venv-peers/.peers
	.venv-peers/bin/python -m pytest -W default tests/peers

# Packages that cannot be installed together with this JAX are left out one by one, and said.
WILD := flax equinox distrax rlax numpyro tfp-nightly lineax optimistix jaxopt diffrax e3nn-jax qwix kfac-jax \
	blackjax dm-haiku chex dm-pix ott-jax s2fft jaxlie quax tokamax aqtp tinygp flowjax oryx matfree interpax orthax \
	quadax signax jax-md jax-cosmo keras

wild: .venv-wild/.wild  ## Check functions of other people's packages against differences; in .venv-wild
	.venv-wild/bin/python -m tests.wild $(ARGS)

.venv-wild/.wild: pyproject.toml $(CHECKER)/pyproject.toml
	$(MAKE) VENV=.venv-wild .venv-wild/.made
	.venv-wild/bin/python -m pip install --quiet --editable $(CHECKER) --editable .
	@jax=$$(.venv-wild/bin/python -c 'import jax; print(jax.__version__)'); for name in $(WILD); do \
	.venv-wild/bin/python -m pip install --quiet $$name "jax==$$jax" || echo "left out: $$name"; done
	@# The release of TensorFlow Probability that others bring along is older than this JAX; jax-cosmo wants pkg_resources.
	@.venv-wild/bin/python -m pip uninstall --quiet --yes tensorflow-probability
	@.venv-wild/bin/python -m pip install --quiet --force-reinstall --no-deps tfp-nightly 'setuptools<81'
	@touch $@

check: $(VENV)/.lint  ## Check format, lint and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/pyright --pythonpath $(BIN)/python
	@for name in fnn vjpcheck; do \
	PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes $$name --ignoreexternal --outputjson | $(BIN)/python -c \
	"import json, sys; known = json.load(sys.stdin)['typeCompleteness']['completenessScore']; \
	print(f'{known:.1%} of the public types of $$name are known'); sys.exit(known < 0.98)" || exit 1; done

format: $(VENV)/.lint  ## Format the code and sort the imports
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(VENV)/.docs  ## Build the documentation's site into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open build/site/index.html"

docs-serve: $(VENV)/.docs  ## Show the site on a port of this machine, and build it anew as its pages change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

docs-test: $(VENV)/.docs  ## Build the site, follow its links, and open its pages where there is a Chromium
	$(BIN)/python -m pytest -m 'slow or not slow' tests/docs

# Some tests that need files of every folder, run where the sdist is unpacked, against the wheel's dependencies.
SAMPLE := tests/test_factors.py tests/test_contributing.py tests/test_release.py tests/describe tests/contract \
	tests/experiments/test_wrong_equations.py README.md docs/checking.md

release-check: $(VENV)/.release  ## Build sdist and wheel, and try all of a release that can be tried here
	rm -rf dist build/sdist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m build --outdir dist $(CHECKER)
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/fnn-*.whl
	$(BIN)/check-wheel-contents --config $(CHECKER)/pyproject.toml dist/vjpcheck-*.whl
	$(BIN)/pyroma --min 10 .
	$(BIN)/pyroma --min 10 $(CHECKER)
	mkdir -p build/sdist && tar -xzf dist/fnn-*.tar.gz -C build/sdist --strip-components=1
	cd build/sdist && $(abspath $(BIN))/python -m pytest --collect-only -q -p no:cacheprovider >/dev/null
	cd build/sdist && $(abspath $(BIN))/python -m pytest -p no:cacheprovider -n $(JOBS) $(SAMPLE)
	@grep -l 'fnn\.example' pyproject.toml $(CHECKER)/pyproject.toml $(CHECKER)/README.md CITATION.cff SECURITY.md || true
	@echo "Before publishing, put the project's own addresses into the files above, if any."

clean:  ## Remove .venv and the caches
	rm -rf $(VENV) .venv-peers .venv-wild .pytest_cache .ruff_cache .hypothesis build dist
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# A stamp for the environment, and one for each extra that is installed in it. Where Python comes without
# ensurepip (as Debian's may), its pip installs another into the environment.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fnn needs Python 3.11 or newer, \
	and $(PYTHON) is " + sys.version.split()[0] + ": try `make PYTHON=python3.12`")'
	$(PYTHON) -m venv --clear $(VENV) || \
	{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV) install --quiet pip; }
	@touch $@

$(VENV)/.%: pyproject.toml $(CHECKER)/pyproject.toml | $(VENV)/.made
	@echo "Installing fnn[$*] into $(VENV), which takes a minute ..."
	@$(BIN)/python -m pip install --quiet --editable $(CHECKER) --editable '.[$*]'
	@touch $@
