# What there is to run, one name each. `.ci/run` calls these targets, so what passes here passes there.
PYTHON ?= python3
BIN := .venv/bin
PARTS := memcache_kv clients benchmarks tests

.PHONY: help test test-pure test-long check coverage audit dist test-sdist bench

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

# The virtual environment with all extras, made anew when the dependencies or the sources of the compiled modules change.
.venv/ready: pyproject.toml $(wildcard memcache_kv/compiled/*.py[xd]) memcache_kv/compiled/build.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[dev,checks]'
	touch $@

test: .venv/ready  ## the tests, but for the long ones: what to run before a commit
	$(BIN)/python -m pytest -n 4

# Without those that compare the compiled modules with the Python code, which would do the same once more.
PURE := MEMCACHE_KV_PURE=1 $(BIN)/python -m pytest -n 4 --ignore-glob 'tests/compiled/test_[!b]*'

test-pure: .venv/ready  ## the same without the compiled modules
	$(PURE)

test-long: .venv/ready  ## the long tests: kills, crash points, faults, memory, large differential runs
	$(BIN)/python -m pytest -n 4 -m long

check: .venv/ready  ## lint, format, types, scripts, Dockerfiles, and bandit's look for unsafe code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PARTS)
	$(BIN)/shellcheck --check-sourced --external-sources --source-path SCRIPTDIR deploy/aws/aws.sh
	$(BIN)/shellcheck .ci/run deploy/aws/config.sh.example deploy/aws/lib/remote/*.sh $(shell git ls-files '*.sh' ':!deploy/aws')
	$(BIN)/bandit -q -c pyproject.toml -r memcache_kv
	$(BIN)/hadolint $(shell git ls-files '*Dockerfile')

# Servers in other processes are not measured.
coverage: .venv/ready  ## the same as test-pure, with the share of lines and branches that tests in the test process reach
	$(PURE) -q --cov --cov-fail-under=85

audit: .venv/ready  ## known vulnerabilities of the installed packages; ALLOW_OFFLINE=1 passes where it cannot ask
	$(BIN)/python .ci/audit.py $(if $(ALLOW_OFFLINE),--allow-offline)

dist: .venv/ready  ## the source distribution, and the wheel for this Python and machine, in dist/
	rm -rf dist
	$(BIN)/python -m build

test-sdist:  ## unpack the source distribution of `make dist` elsewhere, and run the README's line for the tests there
	set -eu; set -- dist/*.tar.gz; test $$# = 1; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	tar -xzf "$$1" -C "$$folder" --strip-components 1; cd "$$folder"; \
	line=$$(grep -m1 -E '^python3 -m venv .*pytest' README.md); echo "+ $$line"; bash -euo pipefail -c "$$line"

bench: .venv/ready  ## every figure of docs/explanation/performance.md; takes half an hour and an idle machine
	$(BIN)/python -m benchmarks.all
