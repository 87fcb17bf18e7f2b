# Every target installs what it needs first; all it takes is Python 3.13.
PYTHON = .venvs/dev/bin/python
RELAY  = .venvs/dev/bin/relay
SAM    = .venvs/sam/bin/sam

export SAM_CLI_TELEMETRY = 0
# What a person has set for a real account or for another project has no say in what runs on this machine alone.
LOCALLY = env -u AWS_PROFILE -u AWS_DEFAULT_PROFILE -u AWS_CA_BUNDLE -u AWS_ENDPOINT_URL -u PYTHONPATH \
  AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null

.DEFAULT_GOAL := help
.PHONY: help setup demo up down logs case console screenshots credentials redrive test sam-local faults fuzz bench check build openapi sbom pins clean

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install everything under .venvs/ (at once when it is all there)
	@local/toolchain.sh setup

demo: setup ## submit every kind of event to an imitation of Kiva, on this machine, and show what became of each
	@$(LOCALLY) $(PYTHON) -m local.demo

up: setup ## start the same stack and keep it running to play with [HOST=docker: containers reach it]
	@$(LOCALLY) $(PYTHON) -m local.stack up $(if $(HOST),--host $(HOST))

logs: setup ## follow what the functions of the running stack say
	@$(LOCALLY) $(PYTHON) -m local.stack logs

down: setup ## stop the running stack and remove what it left
	@$(LOCALLY) $(PYTHON) -m local.stack down

case: setup ## make an alarm's case on the running stack, to rehearse the runbook: NAME=… [END=1]; without NAME their list
	@$(LOCALLY) $(PYTHON) -m local.cases $(NAME) $(if $(END),--end)

console: setup ## open the coordinator's page of STAGE=local|stage|prod in a browser: what waits for a person [PORT=…]
	@$(RELAY) console --stage $(or $(STAGE),local) $(if $(PORT),--port $(PORT))

screenshots: setup ## draw the README's pictures of the pages anew, from a run of the stack on this machine
	@$(LOCALLY) PYTHONPATH=tests:layers/kiva_partner:. $(PYTHON) -m browser.screenshots

credentials: setup ## ask for Kiva's client id and secret and put them into the stack of STAGE=local|stage|prod
	@$(RELAY) credentials --stage $(STAGE)

redrive: setup ## put dead letters of KIND=loan_draft|journal_update|repayment back into their queue: STAGE=… [MAX=…] [YES=1]
	@$(RELAY) redrive $(KIND) --stage $(STAGE) $(if $(MAX),--max $(MAX)) $(if $(YES),--yes)

test: setup ## run all tests: unit, functions, template, sandbox, faults in short, and end to end
	@$(LOCALLY) $(PYTHON) -m pytest

sam-local: setup ## every function in a container, with every file of events/ and by every route (needs Docker)
	@$(LOCALLY) CONTAINERS=needed $(PYTHON) -m pytest tests/sam_local

faults: setup ## fail, kill, duplicate and race it in every way, in full, and print what was lost or doubled
	@$(LOCALLY) FAULTS=whole $(PYTHON) -m pytest tests/faults

fuzz: setup ## 60,000 hostile messages by both ways in; FUZZ_SEED=… repeats a run, FUZZ_ONLY=… one message of it
	@$(LOCALLY) PYTHONPATH=tests:layers/kiva_partner $(PYTHON) -m hostile.fuzz

bench: setup ## compare calls, CPU, memory and cold starts with what most would write, and with the goals: 5 min
	@mkdir -p -m 700 .local && echo 'Building both …' >&2
	@{ $(MAKE) build && PATH="$(CURDIR)/.venvs/uv/bin:$$PATH" $(SAM) build --cached \
	  --template tests/bench/textbook/template.yaml --build-dir .aws-sam/textbook/build --cache-dir .aws-sam/textbook/cache \
	  --parameter-overrides Architecture=$(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64); \
	  } >.local/bench_build.log 2>&1 || { cat .local/bench_build.log; exit 1; }
	@$(LOCALLY) MPLCONFIGDIR=.local/matplotlib PYTHONPATH=tests:.:layers/kiva_partner:functions $(PYTHON) -m bench

check: setup ## lint, format, types and the template, without running anything
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy layers/kiva_partner/kiva_partner functions local cli kiva_sandbox
	$(SAM) validate --lint

build: setup ## build what `sam deploy` and `sam local` use
	@PATH="$(CURDIR)/.venvs/uv/bin:$$PATH" $(SAM) build --cached --parallel

openapi: setup ## write docs/openapi.json, which describes the API
	@PYTHONPATH=layers/kiva_partner $(PYTHON) -c 'import json, pathlib; from kiva_partner.openapi import document; \
	  pathlib.Path("docs/openapi.json").write_text(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")'

sbom: SBOM = .local/sbom.json
sbom: setup ## write the bill of materials of what is deployed (CycloneDX) to .local/sbom.json
	@mkdir -p -m 700 .local
	@.venvs/scanners/bin/cyclonedx-py requirements layers/kiva_partner/requirements.txt --mc-type application \
	  --output-reproducible --output-format JSON --output-file $(SBOM)
	@$(PYTHON) -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["components"]), "distributions in", sys.argv[1])' $(SBOM)

pins: ## resolve every pinned requirement again, to the newest versions its .in file allows
	@local/toolchain.sh pins

clean: ## stop the running stack and remove everything that is not in the repository
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m local.stack down; fi
	rm -rf .venvs .local .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis
