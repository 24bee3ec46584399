# make demo, make test: the newcomer's two commands. Both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: demo test check fuzz bench wheel clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install torch==2.13.0 -c constraints.txt
	$(PIP) install -e . -c constraints.txt
	touch $@

.venv/developer: .venv/installed
	$(PIP) install -e '.[dev,peers]' -c constraints.txt
	touch $@

demo: .venv/installed
	$(BIN)/cofit fit --config examples/demo.toml

test: .venv/developer
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/developer
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fuzz: .venv/developer
	COFIT_FUZZ=3000 $(BIN)/python -m pytest tests/fuzz -n 2

bench: .venv/developer
	$(BIN)/python -m benchmarks

wheel: .venv/developer
	$(BIN)/python -m build --wheel --outdir dist
	sh tools/try_wheel.sh

clean:
	rm -rf .venv dist build runs
