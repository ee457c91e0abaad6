# `make` lists the targets. Each does the set-up it needs, on a fresh machine too.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help run sweep fast test gpu soak docs notebooks pictures results lint format clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(READY)  ## train a small BERT on docstrings, about a minute
	$(BIN)/python -m bertexp

sweep: $(READY)  ## compare three mask rates on that corpus, nine runs
	$(BIN)/python -m bertexp +experiment=mask_rate masking.prob=0.15,0.4,0.8 seed=0,1,2

# What matters most; with one small run, as the others that start commands are slow.
FAST := $(addprefix tests/,masking objectives families/test_build.py families/test_checkpoint.py \
	evaluation/test_bank.py test_arguments.py test_config.py test_end_to_end.py)

# One thread each: two processes that share the cores with two threads wait for each other.
fast: $(READY)  ## run the tests that matter most, under a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q -m "not slow" --hypothesis-profile=fast $(FAST)

test: $(READY)  ## run all tests, about twenty minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q

# With PYTHON as it is, and what it lacks from the wheels in a folder: make gpu WHEELS=wheels
GPU := HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/.gpu:$(CURDIR) $(PYTHON)

gpu:  ## test and measure on a GPU without a network, under eight minutes
	@$(PYTHON) -c 'import torch' || { echo 'make gpu: PYTHON=$(PYTHON) has no torch'; exit 1; }
	@$(PYTHON) -c 'import torch; exit(not torch.cuda.is_available())' || \
		{ echo 'make gpu: torch finds no NVIDIA GPU'; exit 1; }
	$(if $(WHEELS),$(PYTHON) -m pip install -q --no-index --no-deps --upgrade --target .gpu $(WHEELS)/*.whl)
	$(GPU) -m pytest -q -m gpu $$(grep -lr mark.gpu --include='*.py' tests); tests=$$?; \
		$(GPU) -m bertexp.bench bench.seconds=300 && exit $$tests

soak: $(READY)  ## kill a run 200 times and see that nothing is lost, minutes
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/soak.py --trials 200

# Without the advertisement that the theme prints; any warning is an error.
docs: $(READY)  ## build the documentation, site/index.html, a minute
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

notebooks: $(READY)  ## execute the notebooks anew and keep what they show, five minutes
	OMP_NUM_THREADS=1 $(BIN)/python notebooks/make.py

pictures: $(READY)  ## make the README's pictures again, ten minutes
	$(BIN)/python docs/pictures/make.py

results: $(READY)  ## run the published studies again and publish them, hours
	$(BIN)/python docs/results/publish.py --run

lint: $(READY)  ## check style, types and that imports go one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)  ## format the code and make the fixes that are safe
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment; results and caches stay
	rm -rf .venv .gpu site
