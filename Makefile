# Every target works on a fresh clone with Python 3.11 or newer: it makes .venv from the hashed lock by itself and only when the lock changed.
#
#   make demo   the main job, live in this terminal, on a sandbox cluster
#   make test   the default tests (about five minutes on two cores)
#   make check  format, lint, types, import layers, shipped rules and their tests
#   make e2e    the slow tests, and those against real parts: a Kubernetes control plane, helm, Prometheus, Alertmanager, Chromium
#   make crash  the process dies at every point of every plot; ARGS="--only killed --real 10 --write" kills real ones and writes tests/crash/REPORT.md
#   make bench  how fast it is (an hour; RESPONDER_BENCH_ALERTS=5000 and the like: minutes); ARGS=--write writes the table into the README
#   make lock   requirements/*.txt anew from pyproject.toml (needs uv)
#
# Further arguments: make test ARGS='-k ladder -x', make demo ARGS=--keep

BIN := .venv/bin
READY := .venv/.ready
ARGS ?=

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet

.PHONY: help demo test check format e2e crash bench lock venv clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(READY)
	$(BIN)/responder demo $(ARGS)

test: $(READY)
	$(BIN)/pytest -n auto --maxprocesses=4 --dist=loadgroup --ignore=tests/e2e --ignore=tests/bench -m "not slow" $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/responder check rules/
	$(BIN)/responder test rules/

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

e2e: $(READY)
	$(BIN)/pytest -n auto --maxprocesses=4 --dist=loadgroup tests/scenario tests/unit -m slow $(ARGS)
	$(BIN)/pytest tests/e2e tests/cases --back-end=control-plane $(ARGS)

crash: $(READY)
	$(BIN)/python -m tests.crash.sweep $(ARGS)

bench: $(READY)
	$(BIN)/python -m tests.bench.run $(ARGS)
	$(BIN)/pytest tests/bench -s

# The second compile is bound to the first: what is tested is what the image runs.
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH (https://docs.astral.sh/uv/); nothing else does" >&2; exit 1; }
	$(LOCK) pyproject.toml --output-file requirements/run.txt
	$(LOCK) pyproject.toml --group dev --constraints requirements/run.txt --output-file requirements/dev.txt

venv: $(READY)

# pyenv and others put a python3.11 on the PATH that only says it is not installed: so each candidate is asked, not looked for.
# --no-build-isolation: hatchling comes from the lock too, so that nothing without a hash is ever installed.
$(READY): requirements/dev.txt pyproject.toml
	@if ! test -x $(BIN)/python; then \
	  for python in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14 python; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if test -z "$$found"; then \
	    echo "Responder needs Python 3.11 or newer, and none of python3.11 python3 python3.12 python3.13 python3.14 python is that." >&2; \
	    echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  echo "Making .venv with $$("$$found" --version)"; \
	  "$$found" -m venv .venv || { rm -rf .venv; \
	    echo "$$found has no working venv module (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }; \
	fi
	@echo "Installing what requirements/dev.txt names (a minute or two the first time)"
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

clean:
	rm -rf .venv .e2e dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
