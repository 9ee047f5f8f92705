# Tasks of a developer; `just` lists them.
export OMP_NUM_THREADS := "1"

default:
    @just --list

# Install everything into .venv
sync:
    uv sync

# Format, lint and type-check
check:
    uv run ruff format .
    uv run ruff check --fix .
    uv run mypy

# The test suite (what CI runs)
test *ARGS:
    uv run pytest -n auto {{ARGS}}

# The slow tests
test-slow *ARGS:
    uv run pytest -n auto -m slow {{ARGS}}

# The tests of the extra `nerfstudio`, whose pins exclude those of `hps`
test-nerfstudio:
    uv run --isolated --no-group hps --group nerfstudio pytest tests/reconstructors/test_nerfstudio.py

# The tests of the extra `da3`, which needs numpy below 2
test-da3:
    uv run --isolated --no-group hps --group da3 pytest tests/reconstructors/test_da3_package.py

# Build the documentation site into build/site; a broken link is an error
docs:
    uv run --isolated --only-group docs mkdocs build --strict

# The documentation site, rebuilt on every change
docs-serve:
    uv run --isolated --only-group docs mkdocs serve

# Build the four wheels into dist/
build:
    uv build --all-packages --out-dir dist

# Every benchmark, quickly
bench:
    for script in benchmarks/*.py; do uv run python "$script" --quick; done
