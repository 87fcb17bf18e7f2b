.DEFAULT_GOAL := help
.PHONY: help setup

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## build the virtual environments under .venvs/ (nothing to do when they are fresh)
	@local/toolchain.sh setup
