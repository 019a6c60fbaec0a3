# make demo    explain one prompt with the model that ships inside the package
# make app     open the web page on the models that ship inside the package (PORT=7860)
# make test    the tests, in two processes (SLOW=1, or CI=true in the environment, runs the slow ones as well,
#              SOAK=1 all of them, which takes more than an hour; JOBS=1 runs them in one process, JOBS=8 in eight)
# make check   lint, format, types, docs with warnings as errors, generated pages up to date
# make docs    build the documentation into site/
# make format  let ruff rewrite what it can
# make pages   write docs/command-line.md anew from --help, and the tables of pipelines and methods from the registry
# make browser install Chromium for the tests of the page, where this may be done; without one they are skipped
# make screenshots   run the tests of the page and write what they see into docs/pictures/app
# make pins    write constraints.txt anew from what is installed, but for the two packages of this repository
# make clean   remove what the other targets wrote (the environment stays; distclean removes it too)
#
# Every target makes .venv first when it is missing or when a pyproject.toml or constraints.txt changed.
# PYTHON=...  the interpreter to use (3.11 or newer)      PIP_ARGS=...  more arguments for pip install

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished

# 3.11 first: the version the pins were resolved with.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3)
PIP_ARGS ?=
PROMPT := a red circle left of a blue square
PORT := 7860

# What an environment may hold beside the packages that Sfumato asks for: pip itself and the build backend.
UNPINNED := pip wheel hatchling editables tomlkit trove-classifiers

# One thread per process: the tests stay good neighbours on a small machine, and idle threads do not spin. A file of tests
# stays in one process, where its tests share the models that they load and the results that they make; files come in
# their order, since else those of few and long tests come last, when the other process may have nothing left to do.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
JOBS ?= 2
PROCESSES := $(if $(filter-out 1,$(JOBS)),--numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder)
RUN_SLOW := $(filter-out 0 false no,$(SLOW))$(filter 1 true,$(CI))
RUN_ALL := $(filter-out 0 false no,$(SOAK))
CHOSEN := $(if $(RUN_ALL),-m "",$(if $(RUN_SLOW),-m "not soak"))

.PHONY: demo app browser screenshots test check lint types docs pages-fresh pages pins format setup clean distclean

demo: $(STAMP)
	@mkdir -p out
	$(BIN)/sfumato explain "$(PROMPT)" --seed 0 --out out/demo
	@echo "The results are in out/demo: open out/demo/report.html in a browser; image.png is the image, words/ one overlay per word."

app: $(STAMP)
	$(BIN)/sfumato app --port $(PORT)

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing Chromium for the tests of the page"; \
			apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
		fi; \
	} || true
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		echo "There is no Chromium here and it cannot be installed: the tests of the page will be skipped"

screenshots: $(STAMP) browser
	SFUMATO_PICTURES=docs/pictures/app $(ONE_THREAD) $(BIN)/python -m pytest tests/app

test: $(STAMP) browser
	$(ONE_THREAD) $(BIN)/python -m pytest $(PROCESSES) $(CHOSEN)

check: lint types pages-fresh docs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy --strict src training/src

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --clean --site-dir site

pages-fresh: $(STAMP)
	$(BIN)/python docs/tooling/command_line.py --check
	PYTHONPATH=. $(BIN)/python docs/tooling/pipelines.py --check

pages: $(STAMP)
	$(BIN)/python docs/tooling/command_line.py
	PYTHONPATH=. $(BIN)/python docs/tooling/pipelines.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pins: $(STAMP)
	@{ sed -n '/^#/p' constraints.txt; \
		$(BIN)/python -m pip freeze --all --exclude-editable $(addprefix --exclude ,$(UNPINNED)) | sed 's/+[A-Za-z0-9.]*$$//'; \
	} > constraints.txt.new
	@mv constraints.txt.new constraints.txt

setup: $(STAMP)

# An environment whose making was cut short carries .unfinished and is made again from nothing; one that was
# finished, or that somebody else made, is kept and brought up to date.
$(STAMP): pyproject.toml training/pyproject.toml constraints.txt
	@if [ -e $(UNFINISHED) ] || { [ -e $(VENV) ] && ! $(BIN)/python -m pip --version >/dev/null 2>&1; }; then \
		echo "Removing the half-made environment $(VENV)"; rm -rf $(VENV); \
	fi
	@if [ ! -e $(VENV) ]; then \
		for python in $(PYTHONS); do \
			"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
			echo "Making $(VENV) with $$("$$python" --version)"; \
			mkdir $(VENV) && : > $(UNFINISHED) && "$$python" -m venv $(VENV) && break; \
			rm -rf $(VENV); \
		done; \
		if [ ! -e $(VENV) ]; then \
			echo "Found no Python 3.11 or newer with its venv module among: $(PYTHONS). Name one: make setup PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
	fi
	@echo "Installing Sfumato and its tools at the versions of constraints.txt (some minutes the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' -e ./training -c constraints.txt $(PIP_ARGS) || { \
		status=$$?; if [ -e $(UNFINISHED) ]; then rm -rf $(VENV); fi; exit $$status; \
	}
	@rm -f $(UNFINISHED)
	@touch $@

clean:
	rm -rf out site build dist training/dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src training tests benchmarks docs examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV)
