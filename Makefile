# make up      train: a server, an evaluator and N workers on this machine
# make check   lint, types and the fast tests, in about a minute
# make test    everything that CI runs, in about five; make test-all: also every attack and fault under two rules
# make soak    simulate 10,000 runs, kill 100 servers, train 10,000 rounds, fuzz parsers, send 100,000 messages per RPC
# make bench   time the rules, and rounds of the network, beside the floor of what they cannot do without
# make attacks every attack against seven rules on this machine, for docs/attacks.md: about an hour
# make table1  a table or a figure of the paper: table1 to table5, figure1 to figure4, votes, departures
# make docs    renew what is generated in the documentation
# make help    all targets and settings

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTO := $(wildcard protos/ostrakon/v1/*.proto)
PROTOC = $(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) $(PROTO)

# What was set on this command line, each as one quoted KEY=VALUE word: a typo is refused by name, not overlooked.
quote = '$(subst ','\'',$(1))'
given = $(foreach name,$(filter-out PYTHON SHELL MAKEFLAGS MAKEOVERRIDES,$(.VARIABLES)),$(if \
  $(filter command line,$(origin $(name))),$(call quote,$(name)=$(value $(name)))))

PLANS := table1 table2 table3 table4 table5 figure1 figure2 figure3 figure4 votes departures

.PHONY: up status down check fast test test-all tests soak lint format proto bench attacks docs clean help $(PLANS)

up status down: $(VENV)/installed
	@OSTRAKON_CALLED=make $(BIN)/python -m ostrakon $@ $(given)

# Each process takes one test at a time, in their order: the long ones come first, and all processes end together.
# Hundreds of processes import the same modules: they are compiled once, whatever the environment says.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --maxschedchunk 1

check: $(VENV)/installed
	@$(MAKE) --no-print-directory -j 2 lint fast

fast: $(VENV)/installed
	@$(PYTEST) -n 2 -m 'not slow and not matrix and not soak' tests/unit tests/in_process tests/property tests/rules

# Four processes, for two cores: a test of real processes also waits. mypy takes half a minute where it has no cache yet.
test: $(VENV)/installed
	@$(MAKE) --no-print-directory -j 2 lint tests

test-all: $(VENV)/installed
	@$(MAKE) --no-print-directory -j 2 lint tests SELECTED="-m 'not soak'"

tests: $(VENV)/installed
	@$(PYTEST) -n 4 $(SELECTED)

soak: $(VENV)/fuzzer
	@$(BIN)/python -m tests.simulation --seeds 0-9999 --jobs 2
	@$(BIN)/python -m pytest -m soak -s tests/soak tests/network tests/integration
	@$(BIN)/python -m tests.fuzz.guided --seconds 60 --jobs 2
	@$(BIN)/python -m tests.fuzz --messages 100000 --jobs 2

lint: $(VENV)/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@generated=$$(mktemp -d) && $(call PROTOC,$$generated) && diff -r -x '*.proto' -x '__*' protos/ostrakon/v1 $$generated/ostrakon/v1 \
	  && rm -r $$generated || (echo 'generated code is not current: run make proto' && false)

format: $(VENV)/installed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

proto: $(VENV)/installed
	$(call PROTOC,protos)

bench: $(VENV)/installed
	@$(BIN)/python -m ostrakon.bench aggregation
	@$(BIN)/python -m ostrakon.bench network

attacks: $(VENV)/installed
	@$(BIN)/python -m ostrakon.bench attacks --update docs/attacks.md

$(PLANS): $(VENV)/installed
	@OSTRAKON_CALLED=make $(BIN)/python -m ostrakon experiments $@ $(given)

docs: $(VENV)/installed
	@$(BIN)/python -m ostrakon rules --update docs/rules.md

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo 'installing into $(VENV), once ...'
	@$(PYTHON) -m venv $(VENV)
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/fuzzer: $(VENV)/installed
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	@touch $@

clean:
	@rm -rf runs findings $(VENV) build *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: $(VENV)/installed
	@sed -n 's/^# //p' Makefile | head -9
	@$(BIN)/python -m ostrakon up --help
