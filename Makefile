# The front door. Every target makes the virtual environment it needs; everything a tool writes stays under .cache, .venv and tests/output.
PYTHON ?= python3
RUN := $(PYTHON) tests/run_all.py
VENV := $(PYTHON) tests/tools/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help demo demo-shell demo-stop test lint sanity galaxy unit integration molecule matrix browser bench format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run the daily runbook on five throwaway databases: preview, for real, and once more; and restore a backup
	@$(VENV) runtime -- tests/demo/demo.py run

demo-shell: ## leave the demo's server up and say how to connect and how to run any playbook on it
	@$(VENV) runtime -- tests/demo/demo.py shell

demo-stop: ## stop the server that demo-shell left up
	@$(VENV) runtime -- tests/demo/demo.py stop

test: ## everything below but matrix and bench; the last line counts passed and failed
	@$(RUN) lint sanity galaxy unit integration molecule

lint: ## ruff, mypy, yamllint, ansible-lint, antsibull-docs, antsibull-changelog
	@$(RUN) lint

sanity: ## ansible-test sanity on a copy of the tree
	@$(RUN) sanity

galaxy: ## build the collection and let galaxy-importer judge it
	@$(RUN) galaxy

unit: ## tests that need no server
	@$(RUN) unit

integration: ## tests on real servers that they start themselves
	@$(RUN) integration

molecule: ## the roles and playbooks on two systems: converge, idempotence, verify
	@$(RUN) molecule

matrix: ## the integration tests on PostgreSQL 12 to 18 (MAJORS="14 16" for some)
	@$(RUN) matrix

browser: ## look at the report's pages in a headless Chromium (PGOPS_CHROMIUM names it, else one is looked for)
	@$(VENV) test -- -m pytest -q tests/integration/test_report_browser.py

bench: ## the modules against the plain SQL and the janitors that a person would use
	@$(VENV) test -- -m tests.benchmarks
	@$(VENV) test -- -m tests.benchmarks.revocation
	@$(VENV) test -- -m tests.benchmarks.cleanup --large
	@$(VENV) test -- -m tests.benchmarks.health
	@$(VENV) test -- -m tests.benchmarks.backup

format: ## let ruff format and mend what it can
	@$(VENV) test -- -m ruff check --fix --quiet . ; $(VENV) test -- -m ruff format .

clean: ## remove everything that the other targets made
	rm -rf .cache .demo .venv .ansible .mypy_cache .pytest_cache .ruff_cache tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
