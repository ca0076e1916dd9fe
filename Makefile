# Needs make and Python 3.11 or newer with its venv module. Everything else goes into .venv.
#   make demo [DB=postgres] [ARGS=...]   the sample project, on SQLite or PostgreSQL
#   make check [ARGS=...]                lint, types, and the fast tests on SQLite: less than two minutes
#   make test [ARGS=...]                 all tests on SQLite, then on the PostgreSQL of DATABASE_URL or an embedded one
#   make coverage [ARGS=...]             all tests with branch coverage; fails below the limit in pyproject.toml
#   make bench [ARGS=--quick]            benchmarks on the PostgreSQL of DATABASE_URL or an embedded one; needs RabbitMQ
#   make lint | types | clean

DB ?= $(if $(filter postgres%,$(DATABASE_URL)),postgres,sqlite)
SUPPORTED = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1
RUN := .venv/bin/python
ON-postgres := $(RUN) -m testproject.embedded_postgres
INSTALLED-postgres := .venv/installed-embedded
INSTALLED-sqlite := .venv/installed-demo
$(if $(INSTALLED-$(DB)),,$(error DB is sqlite or postgres, not "$(DB)"))

.PHONY: demo check test coverage bench lint types clean

demo: $(INSTALLED-$(DB))
	$(ON-$(DB)) $(RUN) manage.py demo $(ARGS)

# One process for each core, each with its own database. The tests of one file run in order, in one process.
PYTEST = $(MEASURE) -m pytest -n logical --dist loadfile --no-loadscope-reorder

check: lint types
	env -u DATABASE_URL $(RUN) $(PYTEST) -q -m "not slow" $(ARGS)

# The tests run on PostgreSQL even if they fail on SQLite, so that both results are shown.
test: .venv/installed-test
	@status=0; \
	echo "== SQLite"; env -u DATABASE_URL $(RUN) $(PYTEST) $(ARGS) || status=1; \
	echo "== PostgreSQL"; $(ON-postgres) $(RUN) $(PYTEST) $(ARGS) || status=1; \
	exit $$status

coverage: .venv/installed-test
	$(RUN) -m coverage erase
	$(MAKE) test MEASURE="-m coverage run"
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

bench: .venv/installed-test
	$(ON-postgres) $(RUN) -m benchmarks $(ARGS)

lint: .venv/installed-dev
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	.venv/bin/lint-imports --no-cache --no-logo

types: .venv/installed-dev
	$(RUN) -m mypy
	$(RUN) -m tests.public_types

clean:
	rm -rf .venv build dist var *.egg-info .*_cache .hypothesis .coverage*
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/installed-demo: EXTRAS = demo
.venv/installed-embedded: EXTRAS = demo,embedded,postgresql
.venv/installed-test: EXTRAS = test
.venv/installed-dev: EXTRAS = dev
.venv/installed-%: pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --editable ".[$(EXTRAS)]"
	@touch $@

.venv/bin/python:
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "es_django needs Python 3.11 or newer, with its venv module (on Debian: apt install python3-venv)."; \
		echo "If it is installed but was not found: make PYTHON=/path/to/python3.11"; exit 1; } >&2
	$(PYTHON) -m venv .venv
