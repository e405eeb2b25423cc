# Tollgate. `make run` shows it, `make test` proves it; the rest is for people who work on it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WAYS := gateway tests bench
WORKERS ?= 3

# What Python compiled is kept: the tests start it several hundred times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test fast setup check compile test-compiled bench console image lock clean
.DEFAULT_GOAL := help

help:
	@echo "make run    the demo: gateway, upstreams and a story told by itself (Ctrl-C stops it)"
	@echo "make test   installs what the tests need, starts real services on loopback, runs every test"
	@echo "make fast   the tests that need nothing but Python, three minutes on two processors"
	@echo "make check  format, lint, types, architecture"
	@echo "make compile  the native build of the hot modules; the image and the bench have it"
	@echo "make bench  the gateway beside its peers, interleaved; writes bench/results/"
	@echo "make setup  only installs: .venv/bin/tollgate works afterwards"

setup: .venv/.run

.venv/.run: config/locks/run.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing locked dependencies (config/locks/run.txt)"
	@$(PIP) --require-hashes -r config/locks/run.txt
	@$(PIP) --no-deps --no-build-isolation --no-index -e .
	@touch $@

.venv/.test: config/locks/test.txt .venv/.run
	@echo "installing what the tests need (config/locks/test.txt)"
	@$(PIP) --require-hashes -r config/locks/test.txt
	@touch $@

run: setup console
	@exec $(BIN)/tollgate demo

console:
	@if [ ! -f admin/package.json ]; then echo "console: this version serves its status page from the gateway itself"; \
	elif command -v npm >/dev/null; then cd admin && npm ci --silent && npm run --silent build; \
	else echo "console: npm is not here, going on without"; fi

check: .venv/.test
	@$(BIN)/ruff format --check $(WAYS)
	@$(BIN)/ruff check $(WAYS)
	@$(BIN)/mypy gateway
	@$(BIN)/python -m pytest -q tests/test_architecture.py

fast: .venv/.test
	@TOLLGATE_TESTS=fast $(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS) --dist worksteal

test: .venv/.test
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/components.sh
	@$(BIN)/python -m pytest
	@if command -v cc >/dev/null; then $(MAKE) --no-print-directory test-compiled; \
	else echo "SKIPPED: the compiled build, there is no C compiler"; fi

# The native build has types where Python has none: what goes over the wire, and every attack, is tried against it too.
test-compiled: compile
	@cd .cache/compiled && ln -sfn $(foreach each,tests policies config docs bench admin pyproject.toml README.md,../../$(each)) .
	@cd .cache/compiled && ../../$(BIN)/python -c "from gateway.wire import asgi; assert not asgi.__file__.endswith('.py')"
	@cd .cache/compiled && ../../$(BIN)/python -m pytest -q -m "not slow" tests/wire tests/flows tests/attacks

compile: .venv/.test
	@echo "compiling the modules a request passes through into .cache/compiled (a minute or two)"
	@rm -rf .cache/compiled
	@TOLLGATE_COMPILE=1 $(BIN)/python setup.py -q build --build-base .cache/build --build-lib .cache/compiled
	@echo "PYTHONPATH=.cache/compiled $(BIN)/tollgate serve ... runs them"

bench:
	@bench/run.sh

image:
	docker build -t tollgate .

lock:
	@$(PIP) uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links --extra http2 --extra otlp --extra vault --extra demo --group build pyproject.toml -o config/locks/run.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links -c config/locks/run.txt --extra http2 --extra otlp --extra vault --extra cerbos --extra redis --extra alerts --extra demo --group dev \
	  pyproject.toml \
	  -o config/locks/test.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links -c config/locks/run.txt --extra http2 --extra otlp --extra vault --extra cerbos --extra redis --extra alerts --group build \
	  pyproject.toml \
	  -o config/locks/image.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links -c config/locks/test.txt --group native pyproject.toml -o config/locks/native.txt

clean:
	rm -rf .venv .cache build *.egg-info var
