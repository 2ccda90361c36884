# Each target does its own set-up. `make demo` and `make test` are all that one needs.
BIN := .venv/bin
# Most tests wait for real time; a file's tests stay together, as they share clouds.
JOBS := 2
SOURCES := src autoscaler/src servicediscovery/src slowapp terraform/userdata/monitoring tests benchmarks scripts/pins

.PHONY: help setup demo test check format bundle lock reference bench clean

help: ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: ## Install what is missing (Debian packages, .venv); starts no service
	@scripts/setup

demo: setup ## Run the whole loop on this machine and write exotide-report.html
	@$(BIN)/exotide demo $(ARGS)

check: setup ## Format, lint, types, layers, shell and YAML
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	shellcheck scripts/setup .ci/run servicediscovery/entrypoint.sh
	$(BIN)/yamllint --strict monitoring

test: check ## All checks and all tests; JOBS=1 for one process
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

format: setup ## Rewrite the sources in the project's format
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bundle: setup ## Write what user-data carries (terraform/userdata/generated) anew
	$(BIN)/python -m exotide.stack.bundle

lock: setup ## Resolve the dependencies anew into requirements.lock
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --frozen --all-packages --all-groups --no-emit-workspace --no-header \
		--format requirements.txt --output-file requirements.lock
	$(BIN)/python scripts/pins
	rm -f uv.lock

reference: setup ## Write docs/reference/local-cloud.md and terraform.md anew from the code
	$(BIN)/python -m tests.conformance.reference
	$(BIN)/python -m tests.terraform.reference

bench: setup ## Print the figures of the README
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean: ## Remove everything that setup and the tests made in this folder
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
