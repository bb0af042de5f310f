PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint fuzz engines bench notebooks study-recipes study-knowledge study-sat study-headline clean

help:
	@echo "make demo    install into $(VENV) and simulate a ResNet18 training step, dense against BDWP 2:8"
	@echo "make test    install into $(VENV), lint, type-check and run the tests"
	@echo "make fuzz    the tests of properties with new random examples, more of them"
	@echo "make bench   time the engines, the masks and start-up"
	@echo "make engines   the analytic beside the event engine, every model and machine, half an hour; fails beyond 3 or 10 %"
	@echo "make notebooks  execute every notebook; a failed assertion in a cell fails it"
	@echo "make study-recipes    train every recipe on three tasks, at most two hours at a time; resumable"
	@echo "make study-knowledge  what recipes leave of a language model's knowledge, about 20 minutes; resumable"
	@echo "make study-headline   accuracy of the recipe study beside costs on three machines, some minutes"
	@echo "make study-sat        SAT with BDWP 2:8 against dense: speed-up, ablation, sweeps; a minute or two"
	@echo "make clean   remove $(VENV) and everything made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/nmsim run sat_vcu1525 resnet18 --batch 128 --recipe dense -o out/dense
	$(BIN)/nmsim run sat_vcu1525 resnet18 --batch 128 --recipe bdwp --pattern 2:8 -o out/bdwp
	$(BIN)/nmsim compare out/dense out/bdwp -o out
	@echo; echo "Plots and tables are in out/."

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nmsim check arch_configs/*.yaml workloads/*.yaml workloads/*/*.yaml

test: lint
	$(BIN)/python -m pytest

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=fuzz

engines: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.bench_agreement all

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

$(VENV)/.installed-notebooks: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[notebooks]'
	@touch $@

notebooks: $(VENV)/.installed-notebooks
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 -W default notebooks

study-recipes: $(VENV)/.installed-dev
	$(BIN)/python -m studies.recipes

study-knowledge: $(VENV)/.installed-dev
	$(BIN)/python -m studies.knowledge

study-headline: $(VENV)/.installed-dev
	$(BIN)/python -m studies.headline

study-sat: $(VENV)/.installed-dev
	$(BIN)/python -m studies.sat

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
