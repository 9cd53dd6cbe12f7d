# The project's tasks; `make` alone lists them. Each sets up what it needs.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Stamps: each says that its extras are installed as pyproject.toml and constraints.txt have them now.
INSTALLED := $(VENV)/.installed-dev
INSTALLED_DEMO := $(VENV)/.installed-demo
INSTALLED_BENCH := $(VENV)/.installed-bench
JOBS ?= 4
# Where `make rules` writes.
OUT ?= build/rules
# Seeds of `make soak`: hours of mishaps each, in virtual time.
CAMPAIGNS ?= 300
# Each job imports everything once more, which costs more than it saves where tests are quick.
FAST_JOBS ?= 2

# Servers that the tests use when they are there. With CI set, a test whose server is missing fails.
SERVERS := prometheus prometheus-alertmanager victoria-metrics ceph-mon ceph-osd radosgw docker-compose $(if $(wildcard tests/browser),chromium)

# Debian has an older Prometheus; the tests that ask what it makes of our samples are run with both.
PROMETHEUS_3 := .servers/prometheus-3
ON_PROMETHEUS_3 := -m prometheus tests/contract tests/docs/test_answers.py tests/deploy/test_panels.py tests/e2e/test_kills.py \
	tests/e2e/test_end_to_end.py tests/e2e/test_command_check.py

.DEFAULT_GOAL := help
.PHONY: help setup servers demo test test-fast test-pythons sanitize lint format bench bench-smoke soak docs generate rules locks build sbom clean

help: ## list the tasks
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

setup: $(INSTALLED) ## make the virtual environment and install everything, pinned

$(INSTALLED): EXTRAS := dev,demo
$(INSTALLED_DEMO): EXTRAS := demo
$(INSTALLED_BENCH): EXTRAS := bench,demo
$(INSTALLED) $(INSTALLED_DEMO) $(INSTALLED_BENCH): pyproject.toml constraints.txt tools/make_venv.sh hatch_build.py src/cdn77_exporter/core/scan/_scan.c
	@echo 'setting up $(VENV) for $(EXTRAS); the first time takes a minute or two'
	@PYTHON='$(PYTHON)' sh tools/make_venv.sh '$(VENV)' '$(EXTRAS)'
	@touch $@

servers: ## install the servers that the tests use (Debian, as root; no service is started)
	@sh tools/debian_packages.sh $(SERVERS) || [ -z "$$CI" ]
	@sh tools/prometheus_3.sh $(PROMETHEUS_3) || true

demo: $(INSTALLED_DEMO) ## the real service, a real S3 API and Prometheus, for DEMO_SECONDS (60)
	@$(BIN)/python -m cdn77_exporter demo

test: $(INSTALLED) servers ## every test: unit, flow, contract, end to end, deployment; what asks Prometheus also with 3
	$(BIN)/python -m pytest -n $(JOBS)
	@if [ -x $(PROMETHEUS_3)/usr/bin/prometheus ]; then \
		echo 'the same with Prometheus 3:'; \
		PATH="$(abspath $(PROMETHEUS_3))/usr/bin:$$PATH" $(BIN)/python -m pytest -n $(JOBS) $(ON_PROMETHEUS_3); \
	fi

test-fast: $(INSTALLED) ## unit and flow, without what is slow: under a minute of CPU
	$(BIN)/python -m pytest -n $(FAST_JOBS) -m 'not slow' --hypothesis-profile=fast tests/unit tests/flow

test-pythons: ## the fast tests on each other Python from 3.11 on that this machine has
	@PYTHON='$(PYTHON)' sh tools/other_pythons.sh '$(VENV)'

sanitize: $(INSTALLED) ## the compiled scan's tests and its fuzz, with the address and undefined-behaviour sanitizers
	@sh tools/sanitize.sh '$(VENV)'

lint: $(INSTALLED) ## ruff, mypy, import contracts, bandit, shellcheck, hadolint, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests tools $(wildcard bench)
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src
	$(BIN)/shellcheck .ci/run tools/*.sh
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/pre-commit validate-config
	$(BIN)/python tools/audit.py

format: $(INSTALLED) ## put the code into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED_BENCH) ## measure everything, or one PART, and write its pages
	$(BIN)/python -m bench $(if $(PART),--part $(PART))

bench-smoke: $(INSTALLED_BENCH) ## the same on little data, to see that it runs
	$(BIN)/python -m bench --smoke

soak: $(INSTALLED) servers ## hours of traffic with hundreds of kills and faults, days of them in virtual time, memory watched; 2 hours
	CAMPAIGNS=$(CAMPAIGNS) $(BIN)/python -m pytest -n $(JOBS) tests/soak/test_campaigns.py
	SOAK_SECONDS=14400 OUTAGE_SECONDS=600 KILLS=200 $(BIN)/python -m pytest tests/soak/test_soak.py tests/e2e/test_kills.py tests/e2e/test_standby.py

docs: $(INSTALLED) ## build the documentation site into site/
	$(BIN)/python tools/generate_docs.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

generate: $(INSTALLED) ## write what is generated from the code: protobuf, pages, rules, dashboards
	$(BIN)/python tools/generate_proto.py
	$(BIN)/python tools/generate_docs.py
	$(BIN)/python -m tools.rules
	$(BIN)/python -m tools.dashboards

rules: $(INSTALLED) ## write Prometheus's rules into OUT, with links to your RUNBOOK_URL
	$(BIN)/python -m tools.rules --out '$(OUT)' $(if $(RUNBOOK_URL),--set 'runbookUrl=$(RUNBOOK_URL)')

locks: $(INSTALLED) ## write the hashes of what is shipped, of constraints.txt, to locks/
	$(BIN)/python tools/lock.py

build: $(INSTALLED) ## a wheel and an sdist, in dist/
	@rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 315619200) $(BIN)/python -m build

# From an installation of its own, which has nothing in it but what production has.
sbom: $(INSTALLED) ## what a production installation consists of, as CycloneDX JSON, in dist/
	@rm -rf build/sbom && mkdir -p dist
	$(BIN)/python -m venv --without-pip build/sbom
	$(BIN)/python -m pip --quiet --python build/sbom/bin/python install --require-hashes --no-deps -r locks/production.txt
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip --quiet --python build/sbom/bin/python install --no-deps .
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	    --output-file dist/sbom.cdx.json build/sbom/bin/python

clean: ## remove what the tasks have made, the virtual environment too
	rm -rf $(VENV) $(VENV)-3.* build dist site state .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
