# Every target installs what it needs first; all it takes is Python 3.13.
PYTHON = .venvs/dev/bin/python
SAM    = .venvs/sam/bin/sam

export SAM_CLI_TELEMETRY = 0
# What a developer has set for a real account or another project has no say here.
unexport AWS_PROFILE AWS_CA_BUNDLE PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help setup demo up down logs test check build pins clean

help: ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## install everything under .venvs/ (at once when it is all there)
	@local/toolchain.sh setup

demo: setup ## submit every kind of event to an imitation of Kiva, on this machine, and show what became of each
	@$(PYTHON) -m local.demo

up: setup ## start the same stack and keep it running to play with
	@$(PYTHON) -m local.stack up

logs: setup ## follow what the functions of the running stack say
	@$(PYTHON) -m local.stack logs

down: setup ## stop the running stack and remove what it left
	@$(PYTHON) -m local.stack down

test: setup ## run all tests: unit, functions, template, sandbox, and end to end
	@$(PYTHON) -m pytest

check: setup ## lint, format, types and the template, without running anything
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy layers/kiva_partner/kiva_partner functions local
	$(SAM) validate --lint

build: setup ## build what `sam deploy` and `sam local` use
	@PATH="$(CURDIR)/.venvs/uv/bin:$$PATH" $(SAM) build --cached --parallel

pins: ## resolve every pinned requirement again, to the newest versions its .in file allows
	@local/toolchain.sh pins

clean: ## stop the running stack and remove everything that is not in the repository
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m local.stack down; fi
	rm -rf .venvs .local .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis
