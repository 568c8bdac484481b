# SPDX-License-Identifier: MIT
# Every target does its own set-up, once: stamps in .venv/ say what is done, and what has changed is redone.
#   make demo | make test | make test PYTHON=python3.12 | make test ARGS='-k graph'

ARGS ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check

CPP_SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)
CPP_FOLDERS := $(shell find csrc -type d 2>/dev/null)# their times change when a file comes or goes
LIBRARY     := freewire/_native/libfreewire_cpu.so
GPU_LIBRARY := freewire/_native/libfreewire_cuda.so
PLANNER     := freewire/_native/_planner.*.so# its name holds that of the Python it is for

# The interpreter's name is part of the stamp's: a PYTHON that is not the environment's makes a new one instead of
# being ignored. No PYTHON takes the environment that is there, whoever made it.
ifeq ($(origin PYTHON),undefined)
PYTHON    := python3
VENV_MADE := $(firstword $(wildcard $(VENV)/.made-with-*) $(VENV)/.made-with-python3)
else
VENV_MADE := $(VENV)/.made-with-$(notdir $(PYTHON))
endif
PACKAGES  := $(VENV)/.packages
INSTALLED := $(VENV)/.freewire

# Built from a copy, so that the libraries and objects that .venv/ uses stay, and tested away from the sources.
# pip insists on the environment: should it vanish meanwhile, by a second run in this folder say, bin/python would be
# the system's.
VISION     := .venv-vision
LONGEST    := tests/vision/test_imagenet_processes.py# begun first, or one core would wait for the other
VISION_PIP := $(VISION)/bin/python -m pip --disable-pip-version-check --require-virtualenv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
# Tools that understand make's job server (ninja does) must not take our flags for theirs.
unexport MAKEFLAGS MFLAGS

.PHONY: setup demo test test-core test-nightly test-cuda-all test-sanitize test-browser test-vision gpu-smoke test-gpu \
    check format bench bench-gpu gpu clean distclean help FORCE

setup: $(INSTALLED) ## make .venv/, install the pinned packages, build the extension

demo: $(INSTALLED) ## train a freely wired network on handwritten digits; results in demo/
	$(BIN)/python examples/digits.py $(ARGS)

# A file's tests stay in one process: what they build and measure they build once. pyproject.toml explains the marks.
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(PARALLEL)
CORE   := $(addprefix tests/,graph generators files plan pictures ops constraints nn models keras)

test: $(INSTALLED) ## the test suite, on all cores, in minutes
	$(PYTEST) $(ARGS)

test-core: $(INSTALLED) ## graphs, files, plans, CPU operators, networks, models: no compiler, under a minute
	$(PYTEST) -m 'not slow and not compiler and not gpu' $(CORE) $(ARGS)

test-nightly: $(INSTALLED) ## time, memory, accuracy over seeds, fuzzing, kills; run nothing else meanwhile
	$(BIN)/python -m pytest -m nightly $(ARGS)

test-cuda-all: $(INSTALLED) ## the CUDA library built by nvcc for every architecture of docs/kernels.md
	$(BIN)/python -m pytest -m cuda_all tests/cuda/test_library.py $(ARGS)

test-vision: ## the tests of training on images and of timm; downloads 5.6 GB, removed afterwards; takes minutes
	@$(CHECK_PYTHON)
	@$(PYTHON) setup.py check_compiler
	@trap 'rm -rf $(VISION)' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; set -ex; \
	$(PYTHON) -m venv --clear $(VISION); \
	$(VISION_PIP) install -r constraints-vision.txt; \
	mkdir $(VISION)/tree; \
	cp -R csrc examples freewire tests pyproject.toml setup.py LICENSE README.md $(VISION)/tree; \
	FREEWIRE_CUDA=0 $(VISION_PIP) install --quiet --no-build-isolation --no-deps ./$(VISION)/tree; \
	rm -rf $(VISION)/tree/freewire; \
	(cd $(VISION)/tree; ../bin/python -m pytest $(PARALLEL) -p no:cacheprovider $(LONGEST) tests/vision $(ARGS))

test-sanitize: $(INSTALLED) ## all cases of raw kernels (CUDA's on the CPU shim) and planner, under ASan, UBSan, TSan
	$(BIN)/python -m tests.support.sanitize
	$(PYTEST) -m sanitize tests/cuda/test_kernels.py tests/native/test_simt.py $(ARGS)

test-browser: $(INSTALLED) ## the pages that fw.to_html writes, in a headless Chromium, which must be installed
	$(BIN)/python -m pytest -m browser tests/pictures/browser $(ARGS)

gpu-smoke: gpu ## on a GPU, with the Python that has torch: one small case of each kernel in each type
	$(PYTHON) -m tests.support.gpu --smoke $(ARGS)

TOOLS ?= memcheck initcheck racecheck synccheck

test-gpu: gpu ## on a GPU, with the Python that has torch: the tests marked gpu, then compute-sanitizer's TOOLS
	$(PYTHON) -m tests.support.gpu --tools '$(TOOLS)' $(ARGS)

check: $(INSTALLED) ## lint, formatting, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy freewire
	$(BIN)/lint-imports --no-cache --no-logo
	$(if $(CPP_SOURCES),$(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES))

format: $(INSTALLED) ## rewrite the sources as `check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CPP_SOURCES),$(BIN)/clang-format -i $(CPP_SOURCES))

bench: $(INSTALLED) ## time freewire against its peers
	$(BIN)/python -m benchmarks.suites.cpu $(ARGS)

bench-gpu: gpu ## the same on a GPU, against cuSPARSE and dense layers; results in benchmarks/results/
	$(PYTHON) -m benchmarks.suites.gpu $(ARGS)

clean: ## remove what was built, keep .venv/
	rm -rf build dist freewire.egg-info $(LIBRARY) $(GPU_LIBRARY) $(PLANNER) $(INSTALLED)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean ## remove .venv/ too
	rm -rf $(VENV) $(VISION)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# What cannot be installed from here is looked for first, before anything large is downloaded.
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "freewire needs Python 3.10 or newer, \
    got " + sys.version.split()[0] + ". Name another: make ... PYTHON=python3.12")'

$(VENV_MADE):
	@$(CHECK_PYTHON)
	@$(PYTHON) setup.py check_compiler
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(PACKAGES): $(VENV_MADE) constraints.txt
	$(PIP) install -r constraints.txt
	@touch $@

# Dated from before the build, so that a source saved while it ran is built next time. A missing library is rebuilt
# whatever the stamp says.
$(INSTALLED): $(PACKAGES) setup.py pyproject.toml $(CPP_SOURCES) $(CPP_FOLDERS) \
    $(if $(and $(wildcard $(LIBRARY)),$(wildcard $(PLANNER))),,FORCE)
	@touch $@.started
	$(PIP) install --quiet --no-build-isolation --no-deps -e .
	@mv $@.started $@

# Machines with a GPU bring a torch of their own, and often no network: nothing is installed, .venv/ is left alone.
GPU_CHECK := from importlib.util import find_spec; import sys; \
    has = find_spec("torch") and __import__("torch").cuda.is_available(); \
    sys.exit(not has and f"GPU: expected one that torch in {sys.executable} can use, got none. Run this where there is \
    one, or name the Python that has such a torch: make ... PYTHON=python3.12")

gpu:
	@$(PYTHON) -c '$(GPU_CHECK)'
	FREEWIRE_CUDA=1 $(PYTHON) setup.py in_place

FORCE:
