# Everything runs in a virtual environment of the project's own, `.venv`; `make help` lists the targets.
#
#   PYTHON       the Python, 3.11 or newer, that the virtual environment is made from
#   LAB_ARGS     further arguments for JupyterLab, e.g. make lab LAB_ARGS='--no-browser --port=9000'
#   PYTEST_ARGS  further arguments for pytest, e.g. make test PYTEST_ARGS='-x -k gaussian'
#   NOTEBOOKS    the notebooks to run and store, e.g. make notebooks NOTEBOOKS=notebooks/01_vae.ipynb

PYTHON ?= python3
LAB_ARGS ?=
PYTEST_ARGS ?=
NOTEBOOKS ?= $(wildcard notebooks/[0-9]*.ipynb notebooks/solutions/[0-9]*.ipynb)

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest
# A blank in the folder's name would make two targets of one.
EMPTY :=
SITE_VENV := .venv-site
SITE_PYTHON := $(SITE_VENV)/bin/python
CORPUS := $(subst $(EMPTY) ,\ ,$(or $(VRNN_TUTORIAL_DATA),data))/shakespeare.txt

# A file is tested by one process from its first test to its last, one such process on each core; only the runs of
# whole chapters are dealt out one by one (tests/conftest.py).
PYTEST := $(VENV_PYTHON) -m pytest -n logical --dist loadfile
# The outputs that a notebook stores must come out again; tests/sanitize.cfg names what may differ.
NOTEBOOK_TESTS := notebooks --nbval --nbval-current-env --nbval-cell-timeout 300 --nbval-sanitize-with tests/sanitize.cfg

# Several threads would only get in the way of the processes beside them.
test test-all test-oldest test-site seconds notebooks records: export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup lab check test test-all test-oldest test-matrix site test-site seconds mutants notebooks records
.PHONY: figures format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED) $(CORPUS) ## make the virtual environment, install the packages, fetch the corpus

lab: setup ## set up, then open JupyterLab on the notebooks (LAB_ARGS)
	$(VENV_PYTHON) -m jupyterlab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir="$$(pwd)" \
		--LabApp.default_url=/lab/tree/notebooks $(LAB_ARGS)

check: $(INSTALLED) ## check the style of code and notebooks, and the types of the module
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m pyright --pythonpath $(VENV_PYTHON)

test: setup check ## set up, check, then run the tests and every notebook (PYTEST_ARGS)
	$(PYTEST) tests $(NOTEBOOK_TESTS) $(PYTEST_ARGS)

test-all: setup check ## the same, and each chapter with ten seeds and with every cell run twice: an hour (PYTEST_ARGS)
	$(PYTEST) -o python_files='test_*.py weekly.py' tests $(NOTEBOOK_TESTS) $(PYTEST_ARGS)

# What an old package warns of in a newer one that it stands beside is no fault of ours.
test-oldest: setup ## the tests, with each direct dependency but torch at the lower end of its range (PYTEST_ARGS)
	$(VENV_PYTHON) -m venv --clear $(OLDEST)
	$(VENV_PYTHON) tests/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check -e '.[notebooks,test]' -c $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pytest -n logical --dist loadfile -W default tests $(PYTEST_ARGS)

test-matrix: setup ## every notebook, three times over on each of the processor's paths
	@for capability in default avx2; do for mkl in '' COMPATIBLE; do for threads in 1 2; do for round in 1 2 3; do \
		echo "ATEN_CPU_CAPABILITY=$$capability MKL_CBWR=$$mkl OMP_NUM_THREADS=$$threads, round $$round"; \
		env ATEN_CPU_CAPABILITY=$$capability $${mkl:+MKL_CBWR=$$mkl} OMP_NUM_THREADS=$$threads \
			$(PYTEST) -q $(NOTEBOOK_TESTS) $(PYTEST_ARGS) || exit 1; \
	done; done; done; done

site: $(SITE_VENV)/.installed ## build the site out of what the notebooks store, in an environment of its own
	$(SITE_PYTHON) site/build.py

test-site: setup site ## build the site, and test it in a browser (PYTEST_ARGS)
	$(VENV_PYTHON) -m pytest tests/built_site.py $(PYTEST_ARGS)

seconds: setup ## measure how long each file of tests and each notebook takes; CONTRIBUTING.md tells it
	$(VENV_PYTHON) tests/seconds.py tests $(NOTEBOOK_TESTS) $(PYTEST_ARGS)

mutants: setup ## break the code in known ways and check that the tests notice
	$(VENV_PYTHON) tests/mutants/run.py

notebooks: setup ## run notebooks and store what they gave (NOTEBOOKS)
	$(VENV_PYTHON) tests/store.py $(NOTEBOOKS)

records: setup ## write anew what the tests hold the notebooks to; read the difference before you commit it
	$(VENV_PYTHON) tests/records.py

figures: setup ## draw every figure anew
	$(VENV_PYTHON) -m vrnn_tutorial figures

format: $(INSTALLED) ## correct the style of code and notebooks
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

clean: ## remove the virtual environments, caches and build outputs; data and runs stay
	rm -rf $(VENV) $(OLDEST) $(SITE_VENV) site/_build build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

NEEDS_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	found=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null || echo missing); \
	echo "Python 3.11 or newer is needed, but $(PYTHON) is $$found:" \
		"name another, as in make PYTHON=/path/to/python3.11" >&2; \
	exit 1; }

# The stamp is written last, so that a set-up which was interrupted is taken up again by the next call.
$(INSTALLED): pyproject.toml constraints.txt $(VENV_PYTHON)
	@$(NEEDS_PYTHON)
	$(VENV_PYTHON) -c 'import pip' 2> /dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(VENV_PYTHON) -m pip install --disable-pip-version-check -e '.[notebooks,test]' -c constraints.txt
	touch $@

# An environment whose Python has gone, or never got its pip, is made anew.
$(VENV_PYTHON): ;

$(SITE_VENV)/.installed: site/requirements.txt
	@$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear $(SITE_VENV)
	$(SITE_PYTHON) -m pip install --disable-pip-version-check -r site/requirements.txt
	touch $@

# Packages that were installed anew are no reason to fetch the text again: hence the bar.
$(CORPUS): | $(INSTALLED)
	$(VENV_PYTHON) -m vrnn_tutorial data
